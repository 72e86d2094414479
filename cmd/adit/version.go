package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version is set by -ldflags "-X main.version=…" for releases.
var version string

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "print the version",
		Example: "  adit version",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), versionLine())
			return err
		},
	}
}

// versionLine is what adit version and adit --version print.
func versionLine() string {
	return fmt.Sprintf("adit %s %s %s/%s\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// versionText returns the release, or else what the Go tool recorded.
func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return buildVersion(info)
}

// buildVersion returns the tag that was built, or the first 12 digits of the commit
// as git describe --always --dirty writes it, or "devel" when neither is recorded.
func buildVersion(info *debug.BuildInfo) string {
	var revision, dirty string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	module := info.Main.Version
	switch {
	case revision != "" && (module == "" || module == "(devel)" || strings.Contains(module, revision)): // no tag
		return revision + dirty
	case module == "" || module == "(devel)":
		return "devel"
	}
	return module
}
