package auth

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"adit/internal/testnet"
)

// Vulnerabilities of other tunnels, tried on a server's dial path: MayAsk, name
// resolution, Authorize from ControlContext, connect.

// dial connects as a server does for an identity.
func dial(t *testing.T, p *Policy, r *net.Resolver, host string, port uint16) error {
	t.Helper()
	if err := p.MayAsk(host, port); err != nil {
		return err
	}
	d := net.Dialer{
		Resolver: r,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			addr, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return p.Authorize(host, addr)
		},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err == nil {
		c.Close()
	}
	return err
}

// listen returns the port of a listener at 127.0.0.1 that accepts and closes.
func listen(t *testing.T) uint16 {
	t.Helper()
	return netip.MustParseAddrPort(testnet.Serve(t, func(net.Conn) {})).Port()
}

// resolver returns a resolver that knows only these names. asked returns how
// many queries it has sent.
func resolver(t *testing.T, names map[string]string) (r *net.Resolver, asked func() int64) {
	t.Helper()
	hosts := make(map[string][]netip.Addr)
	for name, addr := range names {
		hosts[name] = []netip.Addr{netip.MustParseAddr(addr)}
	}
	r = testnet.NewResolver(t, hosts)
	var queries atomic.Int64
	dial := r.Dial
	r.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		queries.Add(1)
		return dial(ctx, network, address)
	}
	return r, queries.Load
}

// wstunnel #442: a restriction that checked only the port.
func TestAdvisorySamePortOtherHost(t *testing.T) {
	port := listen(t)
	ports := strconv.Itoa(int(port))
	p := mustPolicy(t, "127.0.0.5:"+ports)
	for _, host := range []string{"127.0.0.1", "::ffff:127.0.0.1", "localhost"} {
		if err := dial(t, p, nil, host, port); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: got %v, want forbidden", host, err)
		}
	}
	// Other spellings of the host are the same host.
	p = mustPolicy(t, "127.0.0.1:"+ports)
	for _, host := range []string{"127.0.0.1", "::ffff:127.0.0.1"} {
		if err := dial(t, p, nil, host, port); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// The policy applies to the address that the name resolves to.
func TestAdvisoryResolvedAddress(t *testing.T) {
	port := listen(t)
	ports := strconv.Itoa(int(port))
	r, asked := resolver(t, map[string]string{
		"inside.example.com": "127.0.0.1",
		"meta.example.com":   "169.254.169.254",
		"db.example.com":     "127.0.0.1",
	})
	for _, c := range []struct {
		rule, host string
		want       bool
	}{
		{"*.example.com:" + ports, "inside.example.com", false},
		{"*.example.com:" + ports, "inside.example.com.", false},
		{"*.example.com:" + ports, "meta.example.com", false},
		{"*:*", "meta.example.com", false},
		{"meta.example.com:" + ports, "meta.example.com", false},
		{"0.0.0.0/0:*", "meta.example.com", false},
		{"10.0.0.0/8:" + ports, "db.example.com", false},
		{"db.example.com:" + ports, "db.example.com", true},
		{"db.example.com:" + ports, "DB.example.com.", true},
		{ports, "db.example.com", true}, // loopback is what it resolves to
	} {
		err := dial(t, mustPolicy(t, c.rule), r, c.host, port)
		if c.want && err != nil || !c.want && !errors.Is(err, ErrForbidden) {
			t.Errorf("rule %s, %s: got %v, want allowed=%v", c.rule, c.host, err, c.want)
		}
	}
	// A name that no rule can allow is not resolved.
	before := asked()
	err := dial(t, mustPolicy(t, "db.example.com:*"), r, "secret.example.net", port)
	if !errors.Is(err, ErrForbidden) || asked() != before {
		t.Errorf("got %v after %d queries, want forbidden without any", err, asked()-before)
	}
}

// chisel GHSA-24fp-5v3p-rvpw and wstunnel PR 272: a client authenticated as A
// got B's rights. Each identity has its own policy only.
func TestAdvisoryOtherUsersRights(t *testing.T) {
	tokenA, tokenB := NewToken(), NewToken()
	u, err := NewUsers([]User{
		{Name: "a", TokenHashes: []string{HashToken(tokenA)}, CertName: "a.example", Allow: []string{"10.0.0.1:22"}},
		{Name: "b", TokenHashes: []string{HashToken(tokenB)}, CertName: "b.example", Allow: []string{"10.0.0.2:22"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Credentials{
		{Authorization: "Bearer " + tokenA},
		{Authorization: basicAuth("a", tokenA)},
		{CertNames: []string{"a.example"}},
		{CertNames: []string{"a.example"}, Authorization: "Bearer " + tokenA},
		{CertNames: []string{"other.example"}, Authorization: "Bearer " + tokenA},
	} {
		id, _, err := u.Authenticate(c)
		if err != nil || id.Name != "a" {
			t.Fatalf("%v: got %v, %v", c.CertNames, id, err)
		}
		if err := id.Policy.Authorize("10.0.0.1", netip.MustParseAddrPort("10.0.0.1:22")); err != nil {
			t.Error(err)
		}
		forbidden(t, id.Policy.Authorize("10.0.0.2", netip.MustParseAddrPort("10.0.0.2:22")))
	}
	for name, c := range map[string]Credentials{
		"certificate of a, token of b":    {CertNames: []string{"a.example"}, Authorization: "Bearer " + tokenB},
		"name of a, token of b":           {Authorization: basicAuth("a", tokenB)},
		"certificate of both":             {CertNames: []string{"a.example", "b.example"}},
		"certificate of a, bad token":     {CertNames: []string{"a.example"}, Authorization: "Bearer x"},
		"certificate of a, unknown Basic": {CertNames: []string{"a.example"}, Authorization: basicAuth("z", "z")},
	} {
		if id, _, err := u.Authenticate(c); !errors.Is(err, ErrRejected) {
			t.Errorf("%s: got %v, %v, want rejected", name, id, err)
		}
	}
}
