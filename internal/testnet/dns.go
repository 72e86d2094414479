package testnet

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// ServeDNS starts a DNS server over UDP and returns its HOST:PORT. It answers for
// the names in hosts (lower case, without the trailing dot), does not respond
// for names that contain "silent", responds SERVFAIL for names that contain
// "broken", and NXDOMAIN for all others.
func ServeDNS(t testing.TB, hosts map[string][]netip.Addr) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("testnet: listen: %v", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := answer(buf[:n], hosts); reply != nil {
				pc.WriteTo(reply, from)
			}
		}
	})
	t.Cleanup(func() {
		pc.Close()
		wg.Wait()
	})
	return pc.LocalAddr().String()
}

// NewResolver returns a resolver that uses only a new DNS server for hosts; see
// ServeDNS. Names in the system's hosts file resolve from there.
func NewResolver(t testing.TB, hosts map[string][]netip.Addr) *net.Resolver {
	t.Helper()
	addr := ServeDNS(t, hosts)
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", addr)
	}}
}

// answer returns the response to a query, or nil for none.
func answer(query []byte, hosts map[string][]netip.Addr) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	if strings.Contains(name, "silent") {
		return nil
	}
	rcode := dnsmessage.RCodeSuccess
	addrs, known := hosts[name]
	switch {
	case strings.Contains(name, "broken"):
		rcode = dnsmessage.RCodeServerFailure
	case !known:
		rcode = dnsmessage.RCodeNameError
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: h.ID, Response: true, Authoritative: true,
		RecursionDesired: h.RecursionDesired, RecursionAvailable: true, RCode: rcode})
	if b.StartQuestions() != nil || b.Question(q) != nil || b.StartAnswers() != nil {
		return nil
	}
	rh := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET}
	for _, a := range addrs {
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			b.AResource(rh, dnsmessage.AResource{A: a.As4()})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			b.AAAAResource(rh, dnsmessage.AAAAResource{AAAA: a.As16()})
		}
	}
	reply, err := b.Finish()
	if err != nil {
		return nil
	}
	return reply
}
