package serverd

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/pflag"

	"adit/auth"
	"adit/certs"
	"adit/internal/config"
)

// A reload keeps a certificate that has expired since it was loaded: it may have to
// remove a user at once. A new certificate that has expired is a fault.
func TestReloadWithExpiredCertificate(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { // its clock jumps
		writePair(t, dir)
		plan := func(old *plan, log *slog.Logger, users ...string) (*plan, config.Faults) {
			cfg, faults := config.LoadServer(serverSources(t, dir, users...))
			if len(faults) > 0 {
				t.Fatal(faults.Err())
			}
			d := &Daemon{passwords: auth.NewPasswordLimiter(auth.PasswordLimiterOptions{}), log: log}
			return d.newPlan(cfg, old, false)
		}
		first, faults := plan(nil, slog.New(slog.DiscardHandler), "alice", "mallory")
		if len(faults) > 0 {
			t.Fatal(faults.Err())
		}
		time.Sleep(time.Until(first.tls.source.Leaves()[0].NotAfter) + time.Second)

		var log bytes.Buffer
		next, faults := plan(first, slog.New(slog.NewTextHandler(&log, nil)), "alice")
		if len(faults) > 0 {
			t.Fatal(faults.Err())
		}
		if next.access.Users.Len() != 1 {
			t.Errorf("%d users", next.access.Users.Len())
		}
		next.tls.watch(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), func() {})
		next.tls.stop()
		if !strings.Contains(log.String(), "expired on") {
			t.Errorf("the log does not say so: %q", log.String())
		}

		if _, faults := plan(nil, slog.New(slog.DiscardHandler), "alice"); len(faults) != 1 {
			t.Errorf("a start with it: %v", faults.Err())
		}
		writePair(t, dir)
		time.Sleep(31 * 24 * time.Hour)
		if _, faults := plan(next, slog.New(slog.DiscardHandler), "alice"); len(faults) != 1 {
			t.Errorf("another one that has expired: %v", faults.Err())
		}
	})
}

// writePair puts a certificate that is good for 30 days into dir.
func writePair(t *testing.T, dir string) {
	t.Helper()
	cert, key := ephemeral(t, "localhost")
	for name, data := range map[string][]byte{"cert.pem": cert, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// ephemeral makes a certificate, and its key, as PEM.
func ephemeral(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	pair, err := certs.Ephemeral([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// serverSources are those of a server with the pair in dir and these users.
func serverSources(t *testing.T, dir string, users ...string) config.Sources {
	t.Helper()
	var content strings.Builder
	fmt.Fprintf(&content, "[tls]\ncert = %q\nkey = %q\n", filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	for _, u := range users {
		fmt.Fprintf(&content, "[[user]]\nname = %q\ntoken-hash = %q\nallow = [\"127.0.0.1:1\"]\n", u, auth.HashToken(u))
	}
	file := filepath.Join(dir, "server.toml")
	if err := os.WriteFile(file, []byte(content.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("server", pflag.ContinueOnError)
	config.ServerFlags(flags)
	if err := flags.Parse([]string{"--config", file}); err != nil {
		t.Fatal(err)
	}
	return config.Sources{Flags: flags}
}
