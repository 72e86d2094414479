package testnet

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// SOCKSOptions configure a SOCKS proxy. The zero value requires no
// authentication and allows every target.
type SOCKSOptions struct {
	// User and Password, if User is not empty, are required (RFC 1929).
	User, Password string
	// Hosts maps the HOST:PORT of a request to the address to dial.
	Hosts map[string]string
	// Refuse, if not 0, is the reply code to every request.
	Refuse byte
	// Behind is sent in the same write as the reply, before the backend's
	// bytes.
	Behind []byte
}

// SOCKS is a SOCKS5 proxy (RFC 1928) that supports CONNECT.
type SOCKS struct {
	*server
	o SOCKSOptions

	mu      sync.Mutex
	targets []string // guarded by mu
}

// NewSOCKS starts a SOCKS5 proxy.
func NewSOCKS(t testing.TB, o SOCKSOptions) *SOCKS {
	t.Helper()
	s := &SOCKS{o: o}
	s.server = newServer(t, Listen(t))
	s.start(s.serve)
	return s
}

// Addr returns the proxy's HOST:PORT.
func (s *SOCKS) Addr() string { return s.addr }

// URL returns the proxy's address with its user and password.
func (s *SOCKS) URL() *url.URL {
	u := &url.URL{Scheme: "socks5", Host: s.addr}
	if s.o.User != "" {
		u.User = url.UserPassword(s.o.User, s.o.Password)
	}
	return u
}

// Targets returns the HOST:PORT of each request so far, as the client sent it.
func (s *SOCKS) Targets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.targets...)
}

func (s *SOCKS) serve(c net.Conn) {
	if !s.authenticate(c) {
		drain(c)
		return
	}
	target, err := readSOCKSRequest(c)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.targets = append(s.targets, target)
	s.mu.Unlock()
	answer := func(code byte, behind []byte) {
		c.Write(append([]byte{5, code, 0, 1, 127, 0, 0, 1, 0, 0}, behind...))
	}
	if s.o.Refuse != 0 {
		answer(s.o.Refuse, nil)
		drain(c)
		return
	}
	to := target
	if a, ok := s.o.Hosts[to]; ok {
		to = a
	}
	back, err := s.dial(to)
	if err != nil {
		code := byte(4) // host unreachable
		if errors.Is(err, syscall.ECONNREFUSED) {
			code = 5
		}
		answer(code, nil)
		drain(c)
		return
	}
	defer s.release(back)
	answer(0, s.o.Behind)
	relay(c, back)
}

// authenticate negotiates the method and checks the password, if required.
func (s *SOCKS) authenticate(c net.Conn) bool {
	head := make([]byte, 2)
	if _, err := io.ReadFull(c, head); err != nil || head[0] != 5 {
		return false
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(c, methods); err != nil {
		return false
	}
	want := byte(0)
	if s.o.User != "" {
		want = 2
	}
	for _, m := range methods {
		if m != want {
			continue
		}
		c.Write([]byte{5, want})
		if want == 0 {
			return true
		}
		return s.password(c)
	}
	c.Write([]byte{5, 0xff})
	return false
}

// password performs username/password authentication (RFC 1929).
func (s *SOCKS) password(c net.Conn) bool {
	field := func() (string, error) {
		n := make([]byte, 1)
		if _, err := io.ReadFull(c, n); err != nil {
			return "", err
		}
		b := make([]byte, n[0])
		_, err := io.ReadFull(c, b)
		return string(b), err
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		return false
	}
	user, err := field()
	if err != nil {
		return false
	}
	password, err := field()
	if err != nil {
		return false
	}
	if user != s.o.User || password != s.o.Password {
		c.Write([]byte{1, 1})
		return false
	}
	c.Write([]byte{1, 0})
	return true
}

// readSOCKSRequest returns the HOST:PORT of a request.
func readSOCKSRequest(c net.Conn) (string, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(c, head); err != nil {
		return "", err
	}
	n := 0
	switch head[3] {
	case 1:
		n = 4
	case 4:
		n = 16
	case 3:
		l := make([]byte, 1)
		if _, err := io.ReadFull(c, l); err != nil {
			return "", err
		}
		n = int(l[0])
	default:
		return "", errors.New("unknown address type")
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(c, b); err != nil {
		return "", err
	}
	host := string(b[:n])
	if ip, ok := netip.AddrFromSlice(b[:n]); ok && head[3] != 3 {
		host = ip.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(b[n])<<8|int(b[n+1]))), nil
}
