package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"adit/internal/testnet"
)

// Audit records can go to standard output, where they are alone, or to standard error, on lines of
// their own.
func TestAuditOnStandardStreams(t *testing.T) {
	dead := "/dead=" + testnet.RefusedAddr(t)
	for _, where := range []string{"-", "stderr"} {
		t.Run(where, func(t *testing.T) {
			cmd := adit(t, "server", "--no-tls", "--listen", "127.0.0.1:0", "--route", dead, "--audit", where)
			var stdout bytes.Buffer
			cmd.Stdout = &stdout
			r := start(t, cmd)
			addr := r.wait(`msg=listening addr=(\S+)`)[1]
			askDead(t, addr)
			const record = `{"time":"`
			if where == "stderr" {
				r.wait(`^\{"time":"[^"]+","kind":"route",.*"result":"unreachable"`)
			}
			r.signal(syscall.SIGTERM)
			r.ends(0)
			on := strings.Count(stdout.String(), record)
			if want := map[string]int{"-": 1, "stderr": 0}[where]; on != want || strings.Count(stdout.String(), "\n") != want {
				t.Errorf("standard output has %d records, want %d:\n%s", on, want, stdout.String())
			}
			if on := strings.Count(fmt.Sprint(r.log()), record); on != map[string]int{"-": 0, "stderr": 1}[where] {
				t.Errorf("standard error has %d records", on)
			}
		})
	}
}

// askDead requests the route /dead, whose backend does not answer. The server logs a line and writes
// an audit record.
func askDead(t *testing.T, addr string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+addr+"/dead", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range upgradeHeaders {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusBadGateway {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
}

// Server and client survive the end of the process that reads their output. The log reports lost
// audit records; lost lines of the log are not reported.
func TestCollectorDies(t *testing.T) {
	server := []string{"server", "--no-tls", "--listen", "127.0.0.1:0", "--route", "/dead=" + testnet.RefusedAddr(t)}
	t.Run("of audit records", func(t *testing.T) {
		cmd := adit(t, append(server, "--audit", "-")...)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		r := start(t, cmd)
		addr := r.wait(`msg=listening addr=(\S+)`)[1]
		stdout.Close()
		askDead(t, addr)
		r.wait(`msg="audit records lost" records=1 error=.*broken pipe`)
		askDead(t, addr)
		r.signal(syscall.SIGTERM)
		r.ends(0)
	})
	t.Run("of the server's log", func(t *testing.T) {
		r, addr := startUnread(t, adit(t, server...))
		for range 2 {
			askDead(t, addr)
		}
		r.signal(syscall.SIGTERM)
		r.ends(0)
	})
	t.Run("of the client's log", func(t *testing.T) {
		away := testnet.Listen(t)
		away.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
		r, _ := startUnread(t, adit(t, "client", "--proxy", "none", "-L", "127.0.0.1:0:h:1", "wss://"+away.Addr().String()))
		for range 3 { // each is one line of the log
			c, err := away.Accept()
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
		r.signal(syscall.SIGTERM)
		r.ends(0)
	})
}

// A failed reload reopens the audit file too: logrotate has moved it.
func TestAuditFileAfterAFailedReload(t *testing.T) {
	dir := t.TempDir()
	path, site := filepath.Join(dir, "audit.jsonl"), filepath.Join(dir, "site")
	if err := os.Mkdir(site, 0o700); err != nil {
		t.Fatal(err)
	}
	r := start(t, adit(t, "server", "--no-tls", "--listen", "127.0.0.1:0", "--site", site, "--route", "/dead="+testnet.RefusedAddr(t), "--audit", path))
	addr := r.wait(`msg=listening addr=(\S+)`)[1]
	if err := errors.Join(os.Rename(path, path+".1"), os.Remove(site)); err != nil {
		t.Fatal(err)
	}
	r.signal(syscall.SIGHUP)
	r.wait(`msg="reload failed"`)
	asked := 0
	for deadline := time.Now().Add(patience); ; {
		askDead(t, addr)
		asked++
		if data, err := os.ReadFile(path); err == nil && len(data) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no record is written to the new file")
		}
	}
	// If the new file cannot be created, records go to the previous one.
	if err := errors.Join(os.Rename(path, path+".2"), os.Mkdir(path, 0o700)); err != nil {
		t.Fatal(err)
	}
	r.signal(syscall.SIGHUP)
	r.wait(`msg="audit file not reopened, still writing to the previous file" .*audit.jsonl`)
	askDead(t, addr)
	asked++
	r.signal(syscall.SIGTERM)
	r.ends(0)
	var records bytes.Buffer
	for _, moved := range []string{".1", ".2"} {
		data, err := os.ReadFile(path + moved)
		if err != nil {
			t.Fatal(err)
		}
		records.Write(data)
	}
	if n := strings.Count(records.String(), "\n"); n != asked {
		t.Errorf("%d records, want %d", n, asked)
	}
}

// startUnread starts adit, and closes the pipe of its log once the log says where adit listens.
func startUnread(t *testing.T, cmd *exec.Cmd) (r *process, addr string) {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r = &process{t: t, cmd: cmd, done: make(chan struct{})}
	t.Cleanup(func() { cmd.Process.Kill(); <-r.done })
	for scanner := bufio.NewScanner(stderr); addr == "" && scanner.Scan(); {
		if m := regexp.MustCompile(`msg=listening (?:.* )?addr=(\S+)`).FindStringSubmatch(scanner.Text()); m != nil {
			addr = m[1]
		}
	}
	stderr.Close()
	go func() { cmd.Wait(); close(r.done) }()
	if addr == "" {
		t.Fatal("adit does not listen")
	}
	return r, addr
}
