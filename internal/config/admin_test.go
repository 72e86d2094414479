package config

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"adit/internal/hint"
)

func TestParseAdmin(t *testing.T) {
	for _, s := range []string{"unix:/run/adit/admin.sock", "/run/admin.sock", "127.0.0.1:9090", "[::1]:0", "localhost:9090", "127.8.8.8:1", "[::ffff:127.0.0.1]:1", "none"} {
		if a, err := ParseAdmin(s); err != nil || a.IsZero() {
			t.Errorf("%s: %v, %v", s, a, err)
		}
	}
	for _, s := range []string{":9090", "*:9090", "0.0.0.0:9090", "[::]:9090", "192.0.2.1:9090", "gw.example.com:9090", "localhost.example.com:1", "9090", "systemd:admin", "http://127.0.0.1:1", ""} {
		_, err := ParseAdmin(s)
		if err == nil || !strings.Contains(hint.Of(err), "unix:/run/adit/admin.sock") {
			t.Errorf("%s: %v, hint %q", s, err, hint.Of(err))
		}
	}
}

// Both ends have the settings, in the file, the environment and as flags.
func TestAdminSettings(t *testing.T) {
	load := map[string]func(Sources) (Admin, func(string) string, Faults){
		"server": func(src Sources) (Admin, func(string) string, Faults) {
			s, faults := LoadServer(src)
			return s.Admin, s.Origin, faults
		},
		"client": func(src Sources) (Admin, func(string) string, Faults) {
			c, faults := LoadClient(src, false)
			return c.Admin, c.Origin, faults
		},
	}
	for name, load := range load {
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		map[string]func(*pflag.FlagSet){"server": ServerFlags, "client": ClientFlags}[name](fs)
		if err := fs.Parse([]string{"--admin-pprof"}); err != nil {
			t.Fatal(err)
		}
		a, origin, _ := load(Sources{Flags: fs, LookupEnv: func(name string) (string, bool) {
			return "127.0.0.1:9090", name == "ADIT_ADMIN_LISTEN"
		}})
		if a.Listen != (Address{"tcp", "127.0.0.1:9090"}) || !a.Pprof || origin("admin.listen") != "ADIT_ADMIN_LISTEN" {
			t.Errorf("%s: %+v from %s", name, a, origin("admin.listen"))
		}
		_, _, faults := load(Sources{LookupEnv: func(name string) (string, bool) { return ":9090", name == "ADIT_ADMIN_LISTEN" }})
		if !strings.Contains(faults.Error(), "ADIT_ADMIN_LISTEN") || !strings.Contains(faults.Error(), "no authentication") {
			t.Errorf("%s: %v", name, faults)
		}
	}
}
