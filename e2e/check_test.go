//go:build linux

package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"adit/internal/testnet"
)

// adit check tests every hop of the path. If one fails it says which, why, and what to do.
func TestCheckNamesFailingHop(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	dead := testnet.RefusedAddr(t)
	r := setup{targets: []string{echo}, allow: []string{echo, dead}}.start(t)
	other := newKeyPair(t, "localhost", "127.0.0.1")
	proxy := testnet.NewProxy(t, testnet.ProxyOptions{User: "carol", Password: "right"})
	forbidding := testnet.NewProxy(t, testnet.ProxyOptions{Allow: func(string) bool { return false }})
	plain := testnet.Reply(t, "HTTP/1.1 400 Bad Request\r\n\r\n")
	wrong := writeFile(t, workDir(t), "token", "adit_"+strings.Repeat("A", 43)+"\n")
	url := "wss://" + r.server.addr + tunnelPath
	_, port, _ := strings.Cut(r.server.addr, ":")

	trusted := []string{"--ca", r.pair.ca, "--token-file", r.alice.tokenFile}
	known := []string{"--proxy", "none", "--ca", r.pair.ca, "--token-file", r.alice.tokenFile}
	for _, c := range []struct {
		name   string
		args   []string
		env    []string // of the command, besides its own
		passed string   // the last hop that passes
		failed string   // the hop that fails; "" for none
		why    string   // the reason on its line
		hint   string
	}{
		{name: "all good", args: append(known, "--target", echo, "--throughput", echo, url), passed: "throughput"},
		{name: "wrong name", args: append(known, "wss://gw.nowhere.invalid"+tunnelPath), passed: "configuration", failed: "DNS", why: `gw\.nowhere\.invalid`, hint: "."},
		{name: "closed port", args: append(known, "wss://"+dead+tunnelPath), passed: "configuration", failed: "TCP", why: "connection refused", hint: "."},
		{name: "proxy wants a password", args: append(known, "--proxy", "http://"+proxy.Addr(), url), passed: "TCP", failed: "proxy", why: "407", hint: "password|credentials|user"},
		{name: "proxy wants another password", env: []string{"ADIT_PROXY=http://carol:wrong@" + proxy.Addr()}, args: append(trusted, url), passed: "TCP", failed: "proxy", why: "407", hint: "."},
		{name: "proxy forbids", args: append(known, "--proxy", "http://"+forbidding.Addr(), url), passed: "TCP", failed: "proxy", why: "403", hint: "."},
		{name: "proxy good", env: []string{"ADIT_PROXY=" + proxy.URL().String()}, args: append(trusted, url), passed: "round trip"},
		{name: "untrusted authority", args: []string{"--proxy", "none", "--token-file", r.alice.tokenFile, url}, passed: "TCP", failed: "TLS", why: "adit e2e CA", hint: "--ca|--pin"},
		{name: "another authority", args: append(known, "--ca", other.ca, url), passed: "TCP", failed: "TLS", why: "adit e2e CA", hint: "--ca|--pin"},
		{name: "wrong pin", args: []string{"--proxy", "none", "--token-file", r.alice.tokenFile, "--pin", strings.TrimSpace(r.host.adit(t, "pin", other.cert)), url}, passed: "TCP", failed: "TLS", why: "pin", hint: "."},
		{name: "name not in the certificate", args: append(known, "--server-name", "gw.example.com", url), passed: "TCP", failed: "TLS", why: `gw\.example\.com`, hint: "."},
		{name: "no TLS there", args: append(known, "wss://"+plain+tunnelPath), passed: "TCP", failed: "TLS", why: "TLS", hint: "ws://|port"},
		{name: "TLS there", args: []string{"--proxy", "none", "--token-file", r.alice.tokenFile, "ws://localhost:" + port + tunnelPath}, passed: "TCP", failed: "upgrade", why: "400", hint: "wss"},
		{name: "wrong token", args: append(known, "--token-file", wrong, url), passed: "TLS", failed: "upgrade", why: "404", hint: "token"},
		{name: "wrong path", args: append(known, "wss://"+r.server.addr+"/elsewhere"), passed: "TLS", failed: "upgrade", why: "404", hint: "path"},
		{name: "forbidden target", args: append(known, "--target", "127.0.0.1:7", url), passed: "authentication", failed: "policy", why: "127.0.0.1:7: .*policy", hint: "allow"},
		{name: "dead target", args: append(known, "--target", dead, url), passed: "policy", failed: "target", why: regexp.QuoteMeta(dead) + ": .*refused", hint: "listens"},
		{name: "unknown target", args: append(known, "--target", "nobody", url), passed: "authentication", failed: "policy", why: "nobody", hint: "allow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			argv := slices.Concat([]string{"env"}, c.env, []string{aditBin, "check"}, c.args)
			out, err := r.host.try(t, patience, "", argv...)
			line := func(mark, hop string) string {
				return regexp.MustCompile(`(?m)^` + mark + ` ` + regexp.QuoteMeta(hop) + ` .*$`).FindString(out)
			}
			if line("✓", c.passed) == "" {
				t.Errorf("%s does not pass", c.passed)
			}
			if failures := strings.Count(out, "✗"); c.failed == "" {
				if err != nil || failures > 0 {
					t.Errorf("%v", err)
				}
			} else {
				if exitStatus(err) != 1 || failures != 1 {
					t.Errorf("exit status %d with %d failures, want 1 and 1", exitStatus(err), failures)
				}
				if got := line("✗", c.failed); !regexp.MustCompile(c.why).MatchString(got) {
					t.Errorf("%s does not fail with %q: %s", c.failed, c.why, got)
				}
				if !regexp.MustCompile(`(?m)hint: .*(` + c.hint + `)`).MatchString(out) {
					t.Errorf("no hint with %q", c.hint)
				}
			}
			if t.Failed() {
				t.Logf("%v:\n%s", c.args, out)
			}
		})
	}
}
