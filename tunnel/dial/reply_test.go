package dial

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"adit/tunnel/ws"
)

func TestReadReply(t *testing.T) {
	for _, tt := range []struct {
		in     string
		status int
		reason string
		rest   string
		err    string
	}{
		{"HTTP/1.1 200 Connection established\r\n\r\nrest", 200, "Connection established", "rest", ""},
		{"HTTP/1.0 200 OK\nA: b\n\nrest\n", 200, "OK", "rest\n", ""},
		{"HTTP/1.1 200\r\n\r\n", 200, "", "", ""},
		{"HTTP/1.1  407   x \r\n\r\n", 407, "x", "", ""},
		{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\na: b\r\n\r\nHTTP/1.1 101 Switching\r\n\r\nf", 101, "Switching", "f", ""},
		{"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n", 200, "OK", "", ""},
		{"HTTP/1.1 299 x\x00\x1b\xff" + "\r\n\r\n", 299, "x???", "", ""},
		{"", 0, "", "", "EOF"},
		{"HTT", 0, "", "", "unexpected EOF"},
		{"HTTP/1.1 200 OK\r\nA: b\r\n", 0, "", "", "unexpected EOF"},
		{"HTTP/2 200 OK\r\n\r\n", 0, "", "", "not HTTP"},
		{"<html>", 0, "", "", `begins with "<`},
		{"HTTP/1.x 200 OK\r\n\r\n", 0, "", "", "status line"},
		{"HTTP/1.10 200 OK\r\n\r\n", 0, "", "", "status line"},
		{"HTTP/1.1 2000 OK\r\n\r\n", 0, "", "", "status line"},
		{"HTTP/1.1 099 OK\r\n\r\n", 0, "", "", "status line"},
		{"HTTP/1.1 -20 OK\r\n\r\n", 0, "", "", "status line"},
		{"HTTP/1.1 200 OK\r\nbad\r\n\r\n", 0, "", "", "header is malformed"},
		{"HTTP/1.1 200 OK\r\n" + strings.Repeat("a", 20000), 0, "", "", "exceeds"},
	} {
		br := bufio.NewReader(strings.NewReader(tt.in))
		r, err := readReply(br)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: %v", tt.in, err)
			}
			continue
		}
		rest, _ := io.ReadAll(br)
		if err != nil || r.status != tt.status || r.reason != tt.reason || string(rest) != tt.rest {
			t.Errorf("%q: %+v, rest %q, %v", tt.in, r, rest, err)
		}
	}
}

func TestAuthSchemes(t *testing.T) {
	for field, want := range map[string][]string{
		`Basic realm="x"`: {"Basic"},
		`Negotiate, NTLM`: {"Negotiate", "NTLM"},
		`Digest realm="a, \"b", qop=auth, Basic a=b`: {"Digest", "Basic"},
		`basic, BASIC`:        {"basic"},
		``:                    nil,
		"a,b,c,d,e,f,g,h,i,j": {"a", "b", "c", "d", "e", "f", "g", "h"},
	} {
		if got := authSchemes([]string{field}); !slices.Equal(got, want) {
			t.Errorf("%s: %q", field, got)
		}
	}
}

// fuzzReply checks what holds for every reply, and that it is read the same in pieces of any size.
func fuzzReply(t *testing.T, in []byte) *reply {
	br := bufio.NewReader(bytes.NewReader(in))
	r, err := readReply(br)
	br1 := bufio.NewReaderSize(iotest.OneByteReader(bytes.NewReader(in)), 16)
	r1, err1 := readReply(br1)
	if (err == nil) != (err1 == nil) {
		t.Fatalf("whole %v, in pieces %v", err, err1)
	}
	if err != nil {
		var notHTTP *notHTTPError
		if !errors.As(err, &notHTTP) && err.Error() != err1.Error() {
			t.Fatalf("whole %v, in pieces %v", err, err1)
		}
		if strings.ContainsAny(err.Error(), "\r\n\x1b") || len(err.Error()) > 1000 {
			t.Fatalf("unfit for a log: %q", err)
		}
		return nil
	}
	rest, _ := io.ReadAll(br)
	rest1, _ := io.ReadAll(br1)
	if !bytes.Equal(rest, rest1) || r.status != r1.status || r.reason != r1.reason {
		t.Fatal("the pieces make a difference")
	}
	head := len(in) - len(rest)
	if head > maxReplyHead || !bytes.HasSuffix(in, rest) || !bytes.HasSuffix(in[:head], []byte("\n")) {
		t.Fatalf("a head of %d bytes", head)
	}
	if r.status != 101 && (r.status < 200 || r.status > 999) || strings.ContainsAny(r.reason, "\r\n\x1b") {
		t.Fatalf("status %d, reason %q", r.status, r.reason)
	}
	return r
}

func FuzzConnectReply(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 Connection established\r\n\r\n\x16\x03\x01"))
	f.Add([]byte("HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic realm=\"a, b\", NTLM\r\nX-Squid-Error: E 0\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 100 x\n\nHTTP/1.1 503\n a: b\n\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := fuzzReply(t, in)
		if r == nil {
			return
		}
		e := &StatusError{Code: r.status, Reason: r.reason, Schemes: authSchemes(r.header["Proxy-Authenticate"]), Detail: proxyDetail(r)}
		if s := e.Error(); strings.ContainsAny(s, "\r\n\x1b") || len(s) > 20*4*maxPeerText {
			t.Fatalf("unfit for a log: %q", s)
		}
	})
}

func FuzzUpgradeReply(f *testing.F) {
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	const accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" // RFC 6455, section 1.3
	if ws.AcceptKey(key) != accept {
		f.Fatal("not the accept key of the RFC's example")
	}
	f.Add([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + "\r\n\r\n\x82\x00"))
	f.Add([]byte("HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: a, upgrade\r\nSec-WebSocket-Accept: " + accept + "\r\nSec-WebSocket-Extensions: x\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 302 Found\r\nLocation: //u:p@h/x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := fuzzReply(t, in)
		if r == nil {
			return
		}
		if r.status != 101 {
			a := &attempt{Options: &Options{}}
			err := a.refusal(r, bufio.NewReader(strings.NewReader("")))
			if text, hint, _ := a.upgradeFailure(err); hint == "" || strings.ContainsAny(text.Error(), "\r\n\x1b") {
				t.Fatalf("%q, %q", text, hint)
			}
			return
		}
		if checkUpgrade(r, key) == nil && !bytes.Contains(in, []byte(accept)) {
			t.Fatal("accepted without the key's answer")
		}
	})
}
