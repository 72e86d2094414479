package main

import (
	"runtime/debug"
	"testing"
)

// A plain go build has no -ldflags: the version is the commit.
func TestPlainBuildPrintsTheCommit(t *testing.T) {
	const commit = "da1543aa8c4a96dd0cdc6d011c3f01b40a122e1c"
	for _, tt := range []struct{ module, revision, modified, want string }{
		{"v0.0.0-20261130145626-da1543aa8c4a", commit, "false", "da1543aa8c4a"},
		{"v0.0.0-20261130145626-da1543aa8c4a+dirty", commit, "true", "da1543aa8c4a-dirty"},
		{"v1.2.4-0.20261130145626-da1543aa8c4a", commit, "false", "da1543aa8c4a"},
		{"(devel)", commit, "false", "da1543aa8c4a"},
		{"v1.2.3", commit, "false", "v1.2.3"},
		{"v1.2.3+dirty", commit, "true", "v1.2.3+dirty"},
		{"v1.2.3", "", "", "v1.2.3"}, // go install adit@v1.2.3
		{"(devel)", "", "", "devel"}, // -buildvcs=false
		{"", "", "", "devel"},
	} {
		info := &debug.BuildInfo{Main: debug.Module{Version: tt.module}}
		if tt.revision != "" {
			info.Settings = []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: tt.revision}, {Key: "vcs.modified", Value: tt.modified}}
		}
		if got := buildVersion(info); got != tt.want {
			t.Errorf("%+v: %q", tt, got)
		}
	}
}
