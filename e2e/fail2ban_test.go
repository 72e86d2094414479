//go:build linux

package e2e

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fail2ban's filter finds failed authentications in every log format; a flood of them does not fill
// the disk; and no credential is in any line at any level.
func TestFailedAuthentications(t *testing.T) {
	t.Parallel()
	need(t, "fail2ban-regex")
	for _, format := range []string{"text", "json", "journal"} {
		t.Run(format, func(t *testing.T) {
			h := isolated(t, "gateway")
			var j *journal
			if format == "journal" {
				j = newJournal(t, h)
			}
			alice := newAccount(t, h, "alice")
			bob := h.run(t, secret("a password", "pass of bob")+"\n", aditBin, "token", "--password", "bob")
			echo := h.listen(t, "127.0.0.1:7000").Addr().String()
			p := h.start(t, "adit server", spec{argv: []string{aditBin, "server", "--log-format", format, "--log-level", "debug", "--config",
				writeFile(t, workDir(t), "server.toml", `listen = ["127.0.0.1:8080", "[::1]:8080"]
tls.off = true
`+alice.users(echo)+"[[user]]\nname = \"bob\"\n"+bob+"allow = [\"*:*\"]\n"+route("/r", echo, `users = ["alice"]`)),
			}})
			cleanStop(t, p)
			p.awaitPort(t, h, "127.0.0.1:8080")
			p.awaitPort(t, h, "[::1]:8080")
			send := func(addr, request string) (int, string) {
				t.Helper()
				conn, err := h.dial(addr)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(patience))
				return ask(t, conn, request)
			}
			const v4, v6 = "127.0.0.1:8080", "[::1]:8080"
			token := strings.TrimPrefix(alice.bearer(t), "Authorization: Bearer ")
			basic := func(userinfo string) string {
				return "Authorization: Basic " + secret("credentials", base64.StdEncoding.EncodeToString([]byte(userinfo)))
			}
			good := func(addr, request string, want int) string {
				t.Helper()
				status, answer := send(addr, request)
				if status != want {
					t.Errorf("%.40q has the answer %d, want %d", request, status, want)
				}
				return answer
			}
			// Valid credentials.
			good(v4, upgrade("/r", "Authorization: Bearer "+token), 101)
			good(v4, upgrade("/r", "Sec-WebSocket-Protocol: adit, adit.token."+token), 101)
			good(v4, upgrade("/tunnel", basic("bob:pass of bob")), 101)
			answer := good(v4, request("GET /r/.ticket HTTP/1.1", "Authorization: Bearer "+token), 200)
			m := regexp.MustCompile(`"ticket":"([^"]+)"`).FindStringSubmatch(answer)
			if m == nil {
				t.Fatalf("no ticket: %s", answer)
			}
			ticket := secret("a ticket", m[1])
			good(v4, upgrade("/r?ticket="+ticket), 101)
			// Invalid credentials: 6 times from one address, 5 times from another, and from other
			// addresses.
			wrong := secret("a wrong token", "adit_"+strings.Repeat("B", 43))
			for _, attempt := range []string{
				upgrade("/tunnel", "Authorization: Bearer "+wrong),
				upgrade("/nowhere", basic("bob:wrong")),
				upgrade("/r", "Sec-WebSocket-Protocol: adit, adit.token."+wrong),
				upgrade("/r?ticket=" + ticket[1:]),
				upgrade("/tunnel", "Authorization: Bearer "+token+"x"),
			} {
				good(v4, attempt, 404)
				good(v6, attempt, 404)
			}
			// The client chooses the path. It must not be able to have another address banned.
			good(v4, upgrade("/%0Atime=2026-11-22T16:20:00.123Z%20level=WARN%20msg=%22authentication%20failed%22%20addr=192.0.2.9:1%20path=/", "Authorization: Bearer "+wrong), 404)
			for range 50 {
				good(v4, upgrade("/tunnel"), 404)
				send(v4, request("GET / HTTP/1.1"))
			}

			lines := func() []string {
				if j != nil {
					return j.lines("adit")
				}
				return p.log.all()
			}
			failures := func() (n int) {
				for _, line := range lines() {
					if strings.Contains(line, "authentication failed") {
						n++
					}
				}
				return n
			}
			eventually(t, patience, "all failures are logged", func() error {
				if n := failures(); n != 11 {
					return fmt.Errorf("%d are logged", n)
				}
				return nil
			})
			for range 200 {
				good(v6, upgrade("/tunnel", "Authorization: Bearer "+wrong), 404)
			}
			p.stop(t)
			// The flood causes few lines, and the rest is counted in them. A new minute may begin
			// meanwhile.
			logged, rest := 0, 0
			for _, line := range lines() {
				if m := regexp.MustCompile(`failed repeatedly"?,? ?"?addr"?[=:]"?\[::1\]:\d+"? ?,?"?times"?[=:](\d+)`).FindStringSubmatch(line); m != nil {
					n, _ := strconv.Atoi(m[1])
					rest += n
				} else if regexp.MustCompile(`authentication failed"?,? ?"?addr"?[=:]"?\[::1\]:`).MatchString(line) {
					logged++
				}
			}
			if logged < 20 || logged > 100 || logged+rest != 205 {
				t.Errorf("205 failures of one address are %d lines with a count of %d", logged, rest)
			}
			if j != nil {
				if e := j.await(t, "^authentication failed addr="); e["PRIORITY"] != "4" || e["ADIT_ADDR"] == "" || e["ADIT_PATH"] == "" || e["ADIT_REASON"] == "" {
					t.Errorf("fields %v", e)
				}
				if n := len(p.log.all()); n > 0 {
					t.Errorf("standard error has, too:\n%s", p.log.tail(10))
				}
			}
			if faults := disclosed(recordedSecrets(), []output{{format, lines}}); len(faults) > 0 {
				t.Errorf("%q", faults)
			}
			banned(t, lines(), map[string]int{"127.0.0.1": 6, "::1": logged})
		})
	}
}

// banned compares the addresses that fail2ban's filter finds in lines with want.
func banned(t *testing.T, lines []string, want map[string]int) {
	t.Helper()
	dir := workDir(t)
	for name, from := range map[string]string{
		"adit.conf": filepath.Join("..", "packaging", "fail2ban", "filter.d", "adit.conf"), "common.conf": "/etc/fail2ban/filter.d/common.conf",
	} {
		if err := os.MkdirAll(filepath.Join(dir, "filter.d"), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, "filter.d"), name, readFile(t, from))
	}
	log := writeFile(t, dir, "log", strings.Join(lines, "\n")+"\n")
	out := machine(t).run(t, "", "fail2ban-regex", "--out", "<ip> <time>", log, filepath.Join(dir, "filter.d", "adit.conf"))
	got := map[string]int{}
	for line := range strings.Lines(out) {
		ip, at, _ := strings.Cut(strings.TrimSpace(line), " ")
		got[ip]++
		var seconds float64
		if _, err := fmt.Sscan(at, &seconds); err != nil || time.Since(time.Unix(int64(seconds), 0)).Abs() > time.Hour {
			t.Errorf("fail2ban takes the time of a line as %q", line)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("fail2ban finds %v, want %v, in\n%s", got, want, strings.Join(lines, "\n"))
	}
}

// fail2ban accepts the jail, which is disabled by default.
func TestFail2banJail(t *testing.T) {
	t.Parallel()
	need(t, "fail2ban-client")
	dir := filepath.Join(workDir(t), "fail2ban")
	if err := os.CopyFS(dir, os.DirFS("/etc/fail2ban")); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"filter.d/adit.conf", "jail.d/adit.conf"} {
		writeFile(t, dir, file, readFile(t, filepath.Join("..", "packaging", "fail2ban", file)))
	}
	h := machine(t)
	if out := h.run(t, "", "fail2ban-client", "-c", dir, "-d"); strings.Contains(out, "'adit'") {
		t.Errorf("the jail is enabled by itself:\n%s", out)
	}
	writeFile(t, dir, "jail.d/adit.local", "[adit]\nenabled = true\n")
	out := h.run(t, "", "fail2ban-client", "-c", dir, "-d")
	// Matching by program name would let anyone who starts a program named adit have any address
	// banned.
	const units = "'addjournalmatch', '_SYSTEMD_UNIT=adit-server.service', '+', '_SYSTEMD_UNIT=adit-server-standby.service']"
	for _, want := range []string{"['add', 'adit', 'systemd']", "'adit', 'addfailregex'", units, "['set', 'adit', 'maxretry', 5]", "['start', 'adit']"} {
		if !strings.Contains(out, want) {
			t.Errorf("fail2ban does not say %s:\n%s", want, out)
		}
	}
}
