package dialout

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"adit/mux"
)

func TestClassify(t *testing.T) {
	op := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 9, 8, 7), Port: 6}, Err: err}
	}
	call := func(errno syscall.Errno) error { return op(os.NewSyscallError("connect", errno)) }
	for _, c := range []struct {
		err  error
		want mux.Code
	}{
		{call(syscall.ECONNREFUSED), mux.Refused},
		{call(syscall.EHOSTUNREACH), mux.Unreachable},
		{call(syscall.ENETUNREACH), mux.Unreachable},
		{call(syscall.ETIMEDOUT), mux.Timeout},
		{call(syscall.EMFILE), mux.Busy},
		{call(syscall.ENFILE), mux.Busy},
		{call(syscall.EAGAIN), mux.Busy},
		{call(syscall.ENOENT), mux.NotFound},
		{call(syscall.EACCES), mux.Failed},
		{op(os.ErrDeadlineExceeded), mux.Timeout},
		{op(context.Canceled), mux.Cancelled},
		{op(&Refusal{mux.Forbidden, "no", errors.New("10.9.8.7 is not allowed")}), mux.Forbidden},
		{&Refusal{mux.NotFound, "no such name", context.Canceled}, mux.NotFound},
		{op(&net.DNSError{Name: "x", Server: "10.9.8.7:53", IsNotFound: true}), mux.NotFound},
		{op(&net.DNSError{Name: "x", Server: "10.9.8.7:53", IsTimeout: true}), mux.Timeout},
		{op(&net.DNSError{Name: "x", Server: "10.9.8.7:53", Err: "server misbehaving"}), mux.Failed},
	} {
		code, reason := Classify(c.err)
		if code != c.want || strings.Contains(reason, "10.9.8.7") || reason == "" && code != mux.Cancelled {
			t.Errorf("%v: %v %q, want %v", c.err, code, reason, c.want)
		}
	}
}

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]Address{
		"127.0.0.1:22":    {"tcp", "127.0.0.1", 22},
		"[::1]:65535":     {"tcp", "::1", 65535},
		"db.lan:5432":     {"tcp", "db.lan", 5432},
		"unix:/run/x:1":   {"unix", "/run/x:1", 0},
		"127.0.0.1":       {},
		"127.0.0.1:":      {},
		"127.0.0.1:0":     {},
		"127.0.0.1:65536": {},
		"127.0.0.1:ssh":   {},
		":22":             {},
		"::1:22":          {},
		"unix:run/x":      {},
		"":                {},
	} {
		got, err := ParseAddress(text)
		if got != want || (err == nil) != (want != Address{}) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		if err == nil && want.Network == "tcp" && got.String() != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestDNSTimeoutIsNotTheTargets(t *testing.T) {
	_, reason := Classify(&net.OpError{Op: "dial", Err: &net.DNSError{Name: "x", Server: "10.9.8.7:53", IsTimeout: true}})
	if !strings.Contains(reason, "name resolution") || strings.Contains(reason, "10.9.8.7") {
		t.Errorf("%q", reason)
	}
}
