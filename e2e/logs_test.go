//go:build linux

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A journal receives log entries in place of journald, in one isolated host.
type journal struct {
	mu      sync.Mutex
	entries []map[string]string
}

func newJournal(t *testing.T, h *host) *journal {
	t.Helper()
	var conn *net.UnixConn
	var err error
	h.do(func() {
		if err = os.MkdirAll("/run/systemd/journal", 0o755); err == nil {
			conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/run/systemd/journal/socket", Net: "unixgram"})
		}
	})
	if err != nil {
		t.Fatalf("listen as the journal: %v", err)
	}
	conn.SetReadBuffer(1 << 20)
	j := &journal{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 64<<10)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			entry, err := journalFields(b[:n])
			if err != nil {
				t.Errorf("the journal cannot read %q: %v", b[:n], err)
			}
			j.mu.Lock()
			j.entries = append(j.entries, entry)
			j.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	recordOutput("the journal in "+t.Name(), func() []string { return j.lines("") })
	return j
}

// journalFields decodes an entry of the journal's native protocol.
func journalFields(b []byte) (map[string]string, error) {
	fields := map[string]string{}
	for len(b) > 0 {
		line, rest, found := bytes.Cut(b, []byte("\n"))
		if !found {
			return nil, io.ErrUnexpectedEOF
		}
		name, value, inLine := strings.Cut(string(line), "=")
		if !inLine { // eight bytes of length, the value, and a newline
			if len(rest) < 8 || uint64(len(rest)) < 8+binary.LittleEndian.Uint64(rest)+1 {
				return nil, io.ErrUnexpectedEOF
			}
			n := binary.LittleEndian.Uint64(rest)
			value, rest = string(rest[8:8+n]), rest[8+n+1:]
		}
		fields[name], b = value, rest
	}
	return fields, nil
}

// lines returns the entries of an identifier as journalctl shows them.
func (j *journal) lines(identifier string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var lines []string
	for _, e := range j.entries {
		if identifier == "" || e["SYSLOG_IDENTIFIER"] == identifier || identifier == "adit" && e["SYSLOG_IDENTIFIER"] == "" {
			lines = append(lines, time.Now().Format(time.Stamp)+" gw adit[123]: "+strings.ReplaceAll(e["MESSAGE"], "\n", " "))
		}
	}
	return lines
}

// await waits for an entry whose message matches pattern.
func (j *journal) await(t *testing.T, pattern string) map[string]string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var found map[string]string
	eventually(t, patience, "the journal has "+pattern, func() error {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, e := range j.entries {
			if re.MatchString(e["MESSAGE"]) {
				found = e
				return nil
			}
		}
		return fmt.Errorf("%d entries, none of them", len(j.entries))
	})
	return found
}

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
				if m := regexp.MustCompile(`failed more often"?,? ?"?addr"?[=:]"?\[::1\]:\d+"? ?,?"?times"?[=:](\d+)`).FindStringSubmatch(line); m != nil {
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

// An auditRecord is a record in the audit file as docs/audit.md describes it.
type auditRecord struct {
	Time                                         time.Time
	Kind, Session, User, Client, Target, Address string
	Result, Reason                               string
	ToTarget                                     int64 `json:"bytes_to_target"`
	ToClient                                     int64 `json:"bytes_to_client"`
	Seconds                                      float64
}

func readAudit(t *testing.T, text string) []auditRecord {
	t.Helper()
	var all []auditRecord
	for line := range strings.Lines(text) {
		var r auditRecord
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, r)
	}
	return all
}

// Every stream is recorded in the audit file: who reached which target. logrotate may rename the
// file.
func TestAuditFile(t *testing.T) {
	t.Parallel()
	h := machine(t)
	a := newApplication(t, h)
	forbidden := h.listen(t, "127.0.0.1:0").Addr().String()
	file := filepath.Join(workDir(t), "audit.jsonl")
	r := setup{targets: []string{a.addr, forbidden}, allow: []string{a.addr}, server: []string{"--audit", file}}.start(t)
	records := func(path string, n int) []auditRecord {
		t.Helper()
		var all []auditRecord
		eventually(t, patience, fmt.Sprintf("%s has %d records", path, n), func() error {
			if all = readAudit(t, readFile(t, path)); len(all) != n {
				return fmt.Errorf("it has %d", len(all))
			}
			return nil
		})
		return all
	}
	wantEnded := func(got auditRecord) {
		t.Helper()
		if got.Kind != "stream" || got.User != "alice" || !strings.HasPrefix(got.Client, "127.0.0.1:") || got.Target != a.addr || got.Address != a.addr ||
			got.Result != "ended" || got.Reason != "" || got.ToTarget != 1 || got.ToClient != 1 || got.Seconds <= 0 || got.Session == "" ||
			time.Since(got.Time).Abs() > time.Hour {
			t.Errorf("%+v", got)
		}
	}
	finish := func() {
		t.Helper()
		near, far := r.open(t, a)
		near.CloseWrite()
		far.CloseWrite()
		if _, err := io.Copy(io.Discard, near); err != nil {
			t.Fatal(err)
		}
	}
	finish()
	wantEnded(records(file, 1)[0])
	r.wantNoConnection(t, forbidden)
	if got := records(file, 2)[1]; got.Result != "forbidden" || got.Target != forbidden || got.Address != "" || got.Reason == "" || got.ToTarget != 0 {
		t.Errorf("%+v", got)
	}
	near, far := r.open(t, a)
	near.SetLinger(0)
	near.Close()
	wantReset(t, "the application", far)
	if got := records(file, 3)[2]; got.Result != "reset" || got.Reason == "" || got.Address != a.addr {
		t.Errorf("%+v", got)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	// Rename the file as logrotate does.
	near, far = r.open(t, a)
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	r.server.signal(t, syscall.SIGHUP)
	r.server.wait(t, `msg=reloaded`, 1)
	eventually(t, patience, "the file has been reopened", func() error { _, err := os.Stat(file); return err })
	finish()
	got := records(file, 1)
	wantEnded(got[0])
	// Streams that are open when the server stops are recorded, too.
	r.server.signal(t, syscall.SIGTERM)
	r.server.wait(t, "msg=stopping", 1)
	near.CloseWrite()
	far.CloseWrite()
	<-r.server.done
	r.server.stopped = true
	got = append(got, records(file, 2)[1])
	wantEnded(got[1])
	if got[0].Session != got[1].Session {
		t.Errorf("one session is %s and %s", got[0].Session, got[1].Session)
	}
	if n := len(readAudit(t, readFile(t, file+".1"))); n != 3 {
		t.Errorf("the old file has %d records", n)
	}
}

// When the disk is full, streams continue, and the log says how many records were lost.
func TestAuditLoss(t *testing.T) {
	t.Parallel()
	h := isolated(t, "gateway")
	a := newApplication(t, h)
	var err error
	h.do(func() {
		err = os.Mkdir("/run/small", 0o755)
		if err == nil {
			err = syscall.Mount("tmpfs", "/run/small", "tmpfs", 0, "size=4k")
		}
		if err == nil {
			err = os.WriteFile("/run/small/audit.jsonl", bytes.Repeat([]byte("{}\n"), 4096/3), 0o600)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	r := setup{at: h, targets: []string{a.addr}, server: []string{"--audit", "/run/small/audit.jsonl"}}.start(t)
	for range 3 {
		near, far := r.open(t, a)
		near.CloseWrite()
		far.CloseWrite()
		if _, err := io.Copy(io.Discard, near); err != nil {
			t.Fatal(err)
		}
	}
	r.server.wait(t, `level=ERROR msg="audit records are lost" records=\d+ error=".*no space left on device"`, 1)
}

// The journal gets a field for each attribute of the log and of audit records, at both ends.
func TestJournalFields(t *testing.T) {
	t.Parallel()
	h := isolated(t, "gateway")
	j := newJournal(t, h)
	a := newApplication(t, h)
	pair, alice := newKeyPair(t, "localhost", "127.0.0.1"), newAccount(t, h, "alice")
	users := writeFile(t, workDir(t), "users.toml", alice.users(a.addr))
	env := []string{"ADIT_LOG_FORMAT=journal"}
	server := h.start(t, "adit server", spec{env: env, argv: []string{aditBin, "server", "--listen", "127.0.0.1:4443", "--tls-cert", pair.cert, "--tls-key", pair.key,
		"--tunnel-path", tunnelPath, "--users", users, "--audit", "journal"}})
	cleanStop(t, server)
	j.await(t, "^listening addr=127.0.0.1:4443")
	client := h.start(t, "adit client", spec{env: env, argv: []string{aditBin, "client", "--proxy", "none", "--token-file", alice.tokenFile, "--ca", pair.ca,
		"-L", "127.0.0.1:0:" + a.addr, "wss://127.0.0.1:4443" + tunnelPath}})
	cleanStop(t, client)
	up := j.await(t, "^link up ")
	if up["PRIORITY"] != "6" || up["ADIT_SERVER"] == "" {
		t.Errorf("%v", up)
	}
	opened := j.await(t, "^session opened ")
	r := &rig{host: h, local: map[string]string{a.addr: j.await(t, "^listening forward=")["ADIT_ADDR"]}}
	near, far := r.open(t, a)
	near.CloseWrite()
	far.CloseWrite()
	io.Copy(io.Discard, near)
	got := j.await(t, "^audit ")
	for name, want := range map[string]string{
		"SYSLOG_IDENTIFIER": "adit-audit", "PRIORITY": "6", "ADIT_KIND": "stream", "ADIT_USER": "alice", "ADIT_TARGET": a.addr, "ADIT_ADDRESS": a.addr,
		"ADIT_RESULT": "ended", "ADIT_BYTES_TO_TARGET": "1", "ADIT_BYTES_TO_CLIENT": "1", "ADIT_SESSION": opened["ADIT_SESSION"],
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q, in %v", name, got[name], want, got)
		}
	}
	for name := range got {
		if !slices.Contains([]string{"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"}, name) && !strings.HasPrefix(name, "ADIT_") {
			t.Errorf("field %s", name)
		}
	}
}

// Without a journal the log is text, and a line says why.
func TestNoJournal(t *testing.T) {
	t.Parallel()
	h := isolated(t, "gateway")
	s := h.server(t, "--log-format", "journal", "--no-tls", "--listen", "127.0.0.1:0", "--allow-anonymous", "127.0.0.1:1")
	s.wait(t, `level=WARN msg="logging text to standard error instead of the journal" reason="no systemd journal on this machine"`, 1)
	if out, err := h.try(t, patience, "", aditBin, "server", "--audit", "journal", "--no-tls", "--listen", "127.0.0.1:0", "--allow-anonymous", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "--audit: no systemd journal on this machine") {
		t.Errorf("%s, %v", out, err)
	}
}
