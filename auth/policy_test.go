package auth

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func mustPolicy(t testing.TB, rules ...string) *Policy {
	t.Helper()
	p, err := ParsePolicy(rules)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func forbidden(t *testing.T, err error) {
	t.Helper()
	var pe *PolicyError
	if !errors.Is(err, ErrForbidden) || !errors.As(err, &pe) {
		t.Fatalf("got %v, want a *PolicyError", err)
	}
	hinted(t, pe)
}

func TestAuthorize(t *testing.T) {
	for _, c := range []struct {
		rule, host, addr string
		want             bool
	}{
		{"10.0.0.1:22", "10.0.0.1", "10.0.0.1:22", true},
		{"10.0.0.1:22", "10.0.0.2", "10.0.0.2:22", false}, // same port, other host
		{"10.0.0.1:22", "10.0.0.1", "10.0.0.1:23", false},
		{"10.0.0.1:22", "::ffff:10.0.0.1", "[::ffff:10.0.0.1]:22", true},
		{"10.0.0.1:22", "::ffff:10.0.0.2", "[::ffff:10.0.0.2]:22", false},
		{"10.0.0.0/8:22", "db.lan", "10.9.9.9:22", true}, // by the resolved address
		{"10.0.0.0/8:22", "db.lan", "11.0.0.1:22", false},
		{"[fd00::/8]:22", "fd00::1", "[fd00::1]:22", true},
		{"db.lan:5432", "DB.lan.", "10.0.0.9:5432", true},
		{"db.lan:5432", "db.lan..", "10.0.0.9:5432", false},
		{"db.lan:5432", "xdb.lan", "10.0.0.9:5432", false},
		{"db.lan:5432", "db.lan", "127.0.0.1:5432", true}, // named by the operator
		{"db.lan:5432", "db.lan", "169.254.169.254:5432", false},
		{"k.lan:1", "\u212a.lan", "10.0.0.1:1", false}, // Kelvin sign
		{"*.lan:80", "a.LAN.", "10.0.0.1:80", true},
		{"*.lan:80", "a.b.lan", "10.0.0.1:80", true},
		{"*.lan:80", "lan", "10.0.0.1:80", false},
		{"*.lan:80", ".lan", "10.0.0.1:80", false},
		{"*.lan:80", "evillan", "10.0.0.1:80", false},
		{"*.lan:80", "a.lan", "127.0.0.1:80", false},
		{"*.lan:80", "a.lan", "[::1]:80", false},
		{"*.lan:80", "a.lan", "[::ffff:127.0.0.1]:80", false},
		{"*.lan:80", "a.lan", "[64:ff9b::7f00:1]:80", false},
		{"*.lan:80", "a.lan", "169.254.169.254:80", false},
		{"8000-8100", "localhost", "127.0.0.1:8050", true},
		{"8000-8100", "127.0.0.2", "127.0.0.2:8000", true},
		{"8000-8100", "::1", "[::1]:8100", true},
		{"8000-8100", "::1", "[::1]:8101", false},
		{"8000-8100", "10.0.0.1", "10.0.0.1:8050", false},
		{"*:*", "a.example", "203.0.113.1:1", true},
		{"*:*", "localhost", "127.0.0.1:1", true},
		{"*:*", "x", "169.254.169.254:80", false},
		{"*:*", "x", "169.254.1.1:80", false},
		{"*:*", "x", "[fe80::1]:80", false},
		{"*:*", "x", "[fd00:ec2::254]:80", false},
		{"*:*", "x", "100.100.100.200:80", false},
		{"*:*", "x", "168.63.129.16:80", false},
		{"*:*", "x", "0.0.0.0:80", false},
		{"*:*", "x", "0.1.2.3:80", false},
		{"*:*", "x", "[::]:80", false},
		{"*:*", "x", "224.0.0.1:80", false},
		{"*:*", "x", "255.255.255.255:80", false},
		{"*:*", "x", "[ff02::1]:80", false},
		{"*:*", "x", "[::ffff:169.254.169.254]:80", false},
		{"*:*", "x", "[64:ff9b::a9fe:a9fe]:80", false}, // NAT64 of the metadata service
		{"*:*", "x", "[2002:a9fe:a9fe::1]:80", false},  // 6to4 of the metadata service
		{"*:*", "x", "[64:ff9b::cb00:7101]:80", true},
		{"0.0.0.0/0:*", "x", "169.254.169.254:80", false},
		{"[::/0]:*", "x", "[fe80::1]:80", false},
		{"[::/0]:*", "x", "10.0.0.1:80", false},
		{"169.254.169.254:80", "169.254.169.254", "169.254.169.254:80", true},
		{"169.254.169.254:80", "meta.lan", "169.254.169.254:80", true},
		{"169.254.0.0/16:80", "x", "169.254.7.7:80", true},
		{"169.254.0.0/16:80", "x", "169.254.169.254:80", false}, // wider than the metadata address
		{"169.0.0.0/8:80", "x", "169.254.7.7:80", false},
		{"[fe80::/64]:80", "x", "[fe80::1]:80", true},
		{"[fe80::/64]:80", "x", "[fe80::1%eth0]:80", false},
		{"[64:ff9b::/96]:80", "x", "[64:ff9b::a9fe:a9fe]:80", false},
		{"[64:ff9b::a9fe:a9fe]:80", "x", "[64:ff9b::a9fe:a9fe]:80", true},
		{"0.0.0.0:80", "0.0.0.0", "0.0.0.0:80", true},
		{"224.0.0.0/24:80", "x", "224.0.0.5:80", true},
		{"ssh", "ssh", "127.0.0.1:22", false},
		{"unix:/run/x", "/run/x", "127.0.0.1:22", false},
	} {
		err := mustPolicy(t, c.rule).Authorize(c.host, netip.MustParseAddrPort(c.addr))
		if (err == nil) != c.want {
			t.Errorf("rule %s, %s at %s: got %v, want allowed=%v", c.rule, c.host, c.addr, err, c.want)
		}
		if err != nil {
			forbidden(t, err)
		}
	}
}

func TestMayAsk(t *testing.T) {
	for _, c := range []struct {
		rule, host string
		port       uint16
		want       bool
	}{
		{"db.lan:5432", "db.lan", 5432, true},
		{"db.lan:5432", "DB.LAN.", 5432, true},
		{"db.lan:5432", "other.lan", 5432, false},
		{"db.lan:5432", "db.lan", 5433, false},
		{"db.lan:5432", "10.0.0.1", 5432, false},
		{"*.lan:80", "a.lan", 80, true},
		{"*.lan:80", "lan", 80, false},
		{"10.0.0.0/8:80", "any.example", 80, true}, // may resolve to an address in the range
		{"10.0.0.0/8:80", "10.1.1.1", 80, true},
		{"10.0.0.0/8:80", "::ffff:10.1.1.1", 80, true},
		{"10.0.0.0/8:80", "11.1.1.1", 80, false},
		{"80", "localhost", 80, true},
		{"80", "127.0.0.1", 80, true},
		{"80", "10.0.0.1", 80, false},
		{"*:*", "169.254.169.254", 80, false},
		{"*:*", "fe80::1%eth0", 80, false},
		{"*:*", "127.1", 80, false},
		{"*:*", "0x7f000001", 80, false},
		{"*:*", "2130706433", 80, false},
		{"*:*", "127.0.0.1.", 80, false},
		{"*:*", "a b", 80, false},
		{"*:*", "", 80, false},
		{"*:*", ".", 80, false},
		{"*:*", "a..b", 80, false},
		{"*:*", "[::1]", 80, false},
		{"*:*", "a.example\x00", 80, false},
		{"*:*", strings.Repeat("a", 64), 80, false},
		{"*:*", strings.Repeat("a.", 200), 80, false},
		{"*:*", "a.example", 0, false},
		{"*:*", "a.example", 65535, true},
		{"ssh", "ssh", 22, false},
	} {
		err := mustPolicy(t, c.rule).MayAsk(c.host, c.port)
		if (err == nil) != c.want {
			t.Errorf("rule %s, %q port %d: got %v, want allowed=%v", c.rule, c.host, c.port, err, c.want)
		}
		if err != nil {
			forbidden(t, err)
		}
	}
}

func TestUnixAndTarget(t *testing.T) {
	p := mustPolicy(t, "unix:/run/app.sock", "unix:/run/pool/*", "ssh")
	for name, want := range map[string]bool{
		"/run/app.sock":          true,
		"/run/app.sock2":         false,
		"/run/./app.sock":        false,
		"/run/pool/a":            true,
		"/run/pool/a/b":          true,
		"/run/pool/":             false,
		"/run/pool":              false,
		"/run/pool/../app.sock2": false,
		"/run/poolx":             false,
		"run/app.sock":           false,
		"/run/pool/a\x00":        false,
		"@abstract":              false,
		"":                       false,
	} {
		err := p.AllowUnix(name)
		if (err == nil) != want {
			t.Errorf("%q: got %v, want allowed=%v", name, err, want)
		}
		if err != nil {
			forbidden(t, err)
		}
	}
	if err := p.AllowTarget("ssh"); err != nil {
		t.Error(err)
	}
	forbidden(t, p.AllowTarget("SSH"))
	forbidden(t, p.AllowTarget("db"))
	forbidden(t, mustPolicy(t, "*:*").AllowTarget("ssh"))
	forbidden(t, mustPolicy(t, "*:*").AllowUnix("/run/app.sock"))
}

func TestNoPolicyAllowsNothing(t *testing.T) {
	for _, p := range []*Policy{nil, {}, mustPolicy(t)} {
		forbidden(t, p.MayAsk("localhost", 22))
		forbidden(t, p.Authorize("localhost", netip.MustParseAddrPort("127.0.0.1:22")))
		forbidden(t, p.Authorize("localhost", netip.AddrPort{}))
		forbidden(t, p.AllowUnix("/run/x"))
		forbidden(t, p.AllowTarget("ssh"))
	}
}

func TestPolicyJoinsFaults(t *testing.T) {
	_, err := ParsePolicy([]string{"ssh", "*", "a:b"})
	faults := unjoin(err)
	if len(faults) != 2 {
		t.Fatalf("got %v, want two faults", err)
	}
	for _, f := range faults {
		hinted(t, f)
	}
}

// Every stream consults the policy: success must not allocate.
func TestPolicyAllocations(t *testing.T) {
	p := mustPolicy(t, "ssh", "10.0.0.0/8:1-1000", "*.lan:80", "db.lan:5432")
	addr := netip.MustParseAddrPort("192.168.0.1:5432")
	n := testing.AllocsPerRun(100, func() {
		if p.MayAsk("DB.lan.", 5432) != nil || p.Authorize("DB.lan.", addr) != nil {
			t.Fatal("refused")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAuthorize(b *testing.B) {
	p := mustPolicy(b, "ssh", "10.0.0.0/8:1-1000", "*.lan:80", "db.lan:5432")
	addr := netip.MustParseAddrPort("192.168.0.1:5432")
	for b.Loop() {
		if p.Authorize("db.lan", addr) != nil {
			b.Fatal("refused")
		}
	}
}

// A rule for every address reaches no metadata service, neither by its own address nor by one that a NAT64
// translator maps to it.
func TestWideRulesDoNotReachMetadataServices(t *testing.T) {
	wide := mustPolicy(t, "*:*", "[::/0]:*", "[fd00::/8]:*", "0.0.0.0/0:*", "[64:ff9b:1::/48]:*")
	for _, addr := range []string{
		"fd00:ec2::254", "fd00:ec2::23", "fd00:ec2::253", "fd00:ec2:1::1",
		"fd00:42::42", "fd00:c1::a9fe:a9fe", "192.0.0.192", "fd00:a9fe:a9fe::1", "fd00:100::100:200",
		"64:ff9b:1::a9fe:a9fe",         // NAT64, prefix of 96 bits
		"64:ff9b:1:7:8:9:a9fe:a9fe",    // the same, in a subnet
		"64:ff9b:1:7:a9:fea9:fe00:0",   // 64 bits
		"64:ff9b:1:7a9:fe:a9fe::",      // 56 bits
		"64:ff9b:1:a9fe:a9:fe00::",     // 48 bits
		"64:ff9b:1:a9fe:a9:fe00::beef", // bits after the address are ignored
		"64:ff9b:1::c000:c0",           // 192.0.0.192
	} {
		ip := netip.MustParseAddr(addr)
		err := wide.Authorize(addr, netip.AddrPortFrom(ip, 80))
		if err == nil || !strings.Contains(err.Error(), "cloud metadata") {
			t.Errorf("%s: %v", addr, err)
		}
		rule := netip.AddrPortFrom(ip, 80).String()
		if err := mustPolicy(t, rule).Authorize(addr, netip.AddrPortFrom(ip, 80)); err != nil {
			t.Errorf("the rule %s: %v", rule, err)
		}
	}
	for _, addr := range []string{"fd00::42", "64:ff9b:1::a00:1", "64:ff9b:1:7:a:0:100:0", "192.0.0.8"} {
		if err := wide.Authorize(addr, netip.AddrPortFrom(netip.MustParseAddr(addr), 80)); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	suffix := mustPolicy(t, "*.lan:80")
	if suffix.Authorize("a.lan", netip.MustParseAddrPort("[64:ff9b:1::7f00:1]:80")) == nil {
		t.Error("a suffix rule reaches loopback through NAT64")
	}
}

// Authorize refuses every address of a host that MayAsk refuses: otherwise the
// check before DNS would change what is allowed.
func FuzzMayAskCoversAuthorize(f *testing.F) {
	f.Add("*.lan:80", "a.lan.", []byte{10, 0, 0, 1}, uint16(80))
	f.Add("10.0.0.0/8:80", "10.0.0.1", []byte{10, 0, 0, 1}, uint16(80))
	f.Add("*:*", "k", []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 169, 254, 169, 254}, uint16(80))
	f.Fuzz(func(t *testing.T, rule, host string, ip []byte, port uint16) {
		p, err := ParsePolicy([]string{rule})
		if err != nil {
			return
		}
		addr, ok := netip.AddrFromSlice(ip)
		if !ok {
			return
		}
		refused := p.MayAsk(host, port)
		granted := p.Authorize(host, netip.AddrPortFrom(addr, port)) == nil
		lit, err := netip.ParseAddr(host)
		resolvable := err == nil && lit.Unmap() == addr.Unmap() || validName(trimDot(host))
		if resolvable && refused != nil && granted {
			t.Fatalf("rule %s: %q is refused before DNS and granted at %s", rule, host, addr)
		}
		if granted && specialKind(addr.Unmap()) != "" && !p.rules[0].prefix.Contains(addr.Unmap()) {
			t.Fatalf("rule %s reaches the special address %s", rule, addr)
		}
	})
}
