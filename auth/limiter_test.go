package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// clock is a time that the test moves.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

func testLimiter(o PasswordLimiterOptions) (*PasswordLimiter, *clock) {
	g, c := NewPasswordLimiter(o), &clock{}
	c.advance(time.Hour)
	g.now = c.now
	return g, c
}

func TestPasswordLimiterPerAddress(t *testing.T) {
	g, clk := testLimiter(PasswordLimiterOptions{Burst: 3, Every: time.Minute})
	guess := func(addr string) error {
		done, err := g.admit(netip.MustParseAddr(addr))
		if err == nil {
			done(false)
		}
		return err
	}
	for range 3 {
		if err := guess("192.0.2.1"); err != nil {
			t.Fatal(err)
		}
	}
	for _, same := range []string{"192.0.2.1", "::ffff:192.0.2.1"} {
		if err := guess(same); !errors.Is(err, ErrThrottled) {
			t.Errorf("%s: %v", same, err)
		}
	}
	if err := guess("192.0.2.2"); err != nil {
		t.Errorf("another address: %v", err)
	}
	for i := range 3 {
		if err := guess(fmt.Sprintf("2001:db8::%d", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := guess("2001:db8::ffff"); !errors.Is(err, ErrThrottled) {
		t.Errorf("same /64: %v", err)
	}
	if err := guess("2001:db8:0:1::1"); err != nil {
		t.Errorf("another /64: %v", err)
	}
	clk.advance(time.Minute)
	if err := guess("192.0.2.1"); err != nil {
		t.Errorf("after a minute: %v", err)
	}
	if err := guess("192.0.2.1"); !errors.Is(err, ErrThrottled) {
		t.Errorf("only one more: %v", err)
	}
}

// Correct passwords are not charged: all clients behind one address reconnect
// after a restart of the server.
func TestPasswordLimiterIgnoresCorrectPasswords(t *testing.T) {
	g, _ := testLimiter(PasswordLimiterOptions{Burst: 2})
	u, err := NewUsers([]User{{Name: "a", TokenHashes: []string{bcryptHash(t, "p", bcrypt.MinCost)}}}, WithPasswordLimiter(g))
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr("192.0.2.1")
	for range 20 {
		if _, _, err := u.Authenticate(Credentials{Authorization: basicAuth("a", "p"), Addr: addr}); err != nil {
			t.Fatal(err)
		}
	}
	wrong := Credentials{Authorization: basicAuth("a", "x"), Addr: addr}
	for range 2 {
		if _, _, err := u.Authenticate(wrong); !errors.Is(err, ErrRejected) || errors.Is(err, ErrThrottled) {
			t.Fatal(err)
		}
	}
	if _, _, err := u.Authenticate(wrong); !errors.Is(err, ErrRejected) || !errors.Is(err, ErrThrottled) {
		t.Fatalf("got %v, want rejected and throttled", err)
	}
	// A reload does not restore the allowance.
	again, err := NewUsers([]User{{Name: "a", TokenHashes: []string{bcryptHash(t, "p", bcrypt.MinCost)}}}, WithPasswordLimiter(g))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := again.Authenticate(wrong); !errors.Is(err, ErrThrottled) {
		t.Fatalf("after a reload: %v", err)
	}
}

// Tokens are not limited: they work from an address without allowance.
func TestPasswordLimiterNeverDelaysTokens(t *testing.T) {
	g, _ := testLimiter(PasswordLimiterOptions{Burst: 1})
	token := NewToken()
	u, err := NewUsers([]User{
		{Name: "a", TokenHashes: []string{bcryptHash(t, "p", bcrypt.MinCost)}},
		{Name: "t", TokenHashes: []string{HashToken(token)}},
	}, WithPasswordLimiter(g))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, _, err = u.Authenticate(Credentials{Authorization: basicAuth("a", "x")})
	}
	if !errors.Is(err, ErrThrottled) {
		t.Fatal(err)
	}
	for _, a := range []string{"Bearer " + token, basicAuth("t", token)} {
		if _, _, err := u.Authenticate(Credentials{Authorization: a}); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := u.Authenticate(Credentials{Authorization: "Bearer x"}); errors.Is(err, ErrThrottled) {
		t.Error(err)
	}
}

func TestPasswordLimiterMemoryIsBounded(t *testing.T) {
	g, _ := testLimiter(PasswordLimiterOptions{Burst: 1, MaxAddresses: 10})
	first := netip.MustParseAddr("10.0.0.1")
	addr := first
	for range 1000 {
		done, err := g.admit(addr)
		if err != nil {
			t.Fatal(err)
		}
		done(false)
		addr = addr.Next()
		// The first address is seen every time and so is never forgotten.
		if _, err := g.admit(first); !errors.Is(err, ErrThrottled) {
			t.Fatal("the first address was forgotten")
		}
	}
	if len(g.byAddr) != 10 || g.recent.Len() != 10 {
		t.Errorf("%d and %d addresses", len(g.byAddr), g.recent.Len())
	}
}

func TestPasswordLimiterConcurrency(t *testing.T) {
	g := NewPasswordLimiter(PasswordLimiterOptions{Concurrency: 2, MaxQueue: 1, MaxWait: time.Minute, Burst: 1000})
	addr := netip.MustParseAddr("10.0.0.1")
	admit := func() func(bool) {
		t.Helper()
		done, err := g.admit(addr)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	a, b := admit(), admit()
	var wg sync.WaitGroup
	wg.Go(func() {
		done, err := g.admit(addr) // waits for a slot
		if err != nil {
			t.Error(err)
			return
		}
		done(false)
	})
	for len(g.queue) < 3 { // until the third check waits
		time.Sleep(time.Millisecond)
	}
	if _, err := g.admit(addr); !errors.Is(err, ErrThrottled) {
		t.Errorf("beyond the queue: %v", err)
	}
	a(false)
	wg.Wait()
	b(false)
	if len(g.slots) != 0 || len(g.queue) != 0 {
		t.Errorf("%d slots and %d places not given back", len(g.slots), len(g.queue))
	}

	// A check that waits too long is refused and frees its place.
	g = NewPasswordLimiter(PasswordLimiterOptions{Concurrency: 1, MaxWait: time.Millisecond})
	done, err := g.admit(addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.admit(addr); !errors.Is(err, ErrThrottled) {
		t.Errorf("got %v, want throttled", err)
	}
	done(true)
	if len(g.slots) != 0 || len(g.queue) != 0 {
		t.Errorf("%d slots and %d places not given back", len(g.slots), len(g.queue))
	}
}
