package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// Audit records can go to either standard stream, and are the only thing on it or on lines of their
// own.
func TestAuditOnStandardStreams(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	for _, where := range []string{"-", "stderr"} {
		t.Run(where, func(t *testing.T) {
			cmd := adit(t, "server", "--no-tls", "--listen", "127.0.0.1:0", "--route", "/dead="+dead.Addr().String(), "--audit", where)
			var stdout bytes.Buffer
			cmd.Stdout = &stdout
			r := start(t, cmd)
			addr := r.wait(`msg=listening addr=(\S+)`)[1]
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
