package auth

import (
	"container/list"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// PasswordLimiterOptions bound password checks. A field that is zero or
// negative means its default.
type PasswordLimiterOptions struct {
	// Burst is how many wrong passwords an address may try in a row.
	// Default 10.
	Burst int
	// Every is the time after which an address may try one more.
	// Default 6 s: ten a minute.
	Every time.Duration
	// MaxAddresses bounds how many addresses are remembered; the least
	// recently seen is forgotten first. Default 10,000 (about 2 MB).
	MaxAddresses int
	// Concurrency bounds how many checks the process runs at once.
	// Default: half the CPUs, at least one.
	Concurrency int
	// MaxQueue bounds how many checks wait for a free slot; further ones are
	// refused. Default 32.
	MaxQueue int
	// MaxWait bounds how long a check waits for a slot. Default 2 s.
	MaxWait time.Duration
}

// PasswordLimiter bounds the CPU time and memory that guessing passwords can
// cost, per address and in total. An IPv6 address counts as its /64, which one
// customer owns whole. Correct passwords are not charged. A process makes one
// and passes it to every NewUsers, so that the allowances survive a reload. It
// is safe for concurrent use.
type PasswordLimiter struct {
	opts PasswordLimiterOptions
	now  func() time.Time // replaced by tests

	queue chan struct{} // holds one element per running or waiting check
	slots chan struct{} // holds one element per running check

	// Guarded by mu.
	mu     sync.Mutex
	byAddr map[netip.Prefix]*list.Element
	recent *list.List // of *allowance, the most recently seen first
}

// allowance is what is left of an address's wrong passwords.
type allowance struct {
	key     netip.Prefix
	limiter *rate.Limiter
}

// NewPasswordLimiter returns a limiter with the bounds of o.
func NewPasswordLimiter(o PasswordLimiterOptions) *PasswordLimiter {
	setDefault(&o.Burst, 10)
	setDefault(&o.Every, 6*time.Second)
	setDefault(&o.MaxAddresses, 10_000)
	setDefault(&o.Concurrency, max(1, runtime.GOMAXPROCS(0)/2))
	setDefault(&o.MaxQueue, 32)
	setDefault(&o.MaxWait, 2*time.Second)
	return &PasswordLimiter{
		opts:   o,
		now:    time.Now,
		queue:  make(chan struct{}, o.Concurrency+o.MaxQueue),
		slots:  make(chan struct{}, o.Concurrency),
		byAddr: make(map[netip.Prefix]*list.Element),
		recent: list.New(),
	}
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// admit reserves a slot to check one password from addr. On success the caller
// must call done after the check and say whether the password was correct.
// admit blocks for at most MaxWait; its only error is ErrThrottled.
func (g *PasswordLimiter) admit(addr netip.Addr) (done func(correct bool), err error) {
	// The attempt is charged before the check: otherwise many concurrent
	// attempts would all find the allowance untouched.
	now := g.now()
	charge := g.limiter(addr).ReserveN(now, 1)
	if !charge.OK() || charge.DelayFrom(now) > 0 {
		charge.CancelAt(now)
		return nil, ErrThrottled
	}
	if !g.enter() {
		charge.CancelAt(now) // the server is saturated: no wrong password
		return nil, ErrThrottled
	}
	return func(correct bool) {
		<-g.slots
		<-g.queue
		if correct {
			charge.CancelAt(now)
		}
	}, nil
}

// enter takes a slot, waiting in the queue for at most MaxWait. It reports
// whether it got one.
func (g *PasswordLimiter) enter() bool {
	select {
	case g.queue <- struct{}{}:
	default:
		return false
	}
	select {
	case g.slots <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(g.opts.MaxWait)
	defer timer.Stop()
	select {
	case g.slots <- struct{}{}:
		return true
	case <-timer.C:
		<-g.queue
		return false
	}
}

// limiter returns the allowance of an address, new or remembered.
func (g *PasswordLimiter) limiter(addr netip.Addr) *rate.Limiter {
	key := limiterKey(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	if e, ok := g.byAddr[key]; ok {
		g.recent.MoveToFront(e)
		return e.Value.(*allowance).limiter
	}
	for g.recent.Len() >= g.opts.MaxAddresses {
		oldest := g.recent.Back()
		delete(g.byAddr, oldest.Value.(*allowance).key)
		g.recent.Remove(oldest)
	}
	entry := &allowance{key, rate.NewLimiter(rate.Every(g.opts.Every), g.opts.Burst)}
	g.byAddr[key] = g.recent.PushFront(entry)
	return entry.limiter
}

// limiterKey returns the prefix whose addresses share one allowance: an IPv4
// address, an IPv6 /64, or the zero Prefix for peers without an address (unix
// sockets).
func limiterKey(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap()
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	key, _ := addr.WithZone("").Prefix(bits)
	return key
}
