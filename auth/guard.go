package auth

import (
	"container/list"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// GuardOptions bound password checks. The zero value is useful.
type GuardOptions struct {
	// Burst is how many wrong passwords in a row an address may try.
	// Default 10.
	Burst int
	// Every is the time after which an address may try one more.
	// Default 6 s, ten a minute.
	Every time.Duration
	// MaxAddresses bounds how many addresses are remembered; the one not seen
	// for longest is forgotten first. Default 10,000 (about 2 MB).
	MaxAddresses int
	// Concurrency bounds how many checks the whole process runs at once.
	// Default: half the CPUs, at least one.
	Concurrency int
	// MaxQueue bounds how many checks wait for their turn; more are refused.
	// Default 32.
	MaxQueue int
	// MaxWait bounds how long one waits for its turn. Default 2 s.
	MaxWait time.Duration
}

// Guard bounds the CPU and the memory that guessing passwords can cost, per
// address and in all. An IPv6 address counts as its /64, which one customer
// owns whole. Passwords that turn out right are not counted. Make one per
// process and hand it to every NewUsers, so that it survives a reload.
type Guard struct {
	opts GuardOptions
	now  func() time.Time

	mu     sync.Mutex
	byAddr map[netip.Prefix]*list.Element
	recent *list.List // of *guarded, the last seen in front

	queue chan struct{} // a place for each check that runs or waits
	slots chan struct{} // a place for each check that runs
}

type guarded struct {
	key     netip.Prefix
	limiter *rate.Limiter
}

// NewGuard returns a guard; fields of o that are zero or negative mean the
// default.
func NewGuard(o GuardOptions) *Guard {
	setDefault(&o.Burst, 10)
	setDefault(&o.Every, 6*time.Second)
	setDefault(&o.MaxAddresses, 10_000)
	setDefault(&o.Concurrency, max(1, runtime.GOMAXPROCS(0)/2))
	setDefault(&o.MaxQueue, 32)
	setDefault(&o.MaxWait, 2*time.Second)
	return &Guard{
		opts:   o,
		now:    time.Now,
		byAddr: make(map[netip.Prefix]*list.Element),
		recent: list.New(),
		queue:  make(chan struct{}, o.Concurrency+o.MaxQueue),
		slots:  make(chan struct{}, o.Concurrency),
	}
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// admit asks for the right to check one password from addr. On success the
// caller must call done when the check is over, and say whether the password
// was right. It waits at most MaxWait; the only error is ErrThrottled.
func (g *Guard) admit(addr netip.Addr) (done func(right bool), err error) {
	// The attempt is charged before the check, or many at once would all find
	// the allowance untouched.
	now := g.now()
	charge := g.limiter(addr).ReserveN(now, 1)
	if !charge.OK() || charge.DelayFrom(now) > 0 {
		charge.CancelAt(now)
		return nil, ErrThrottled
	}
	if !g.enter() {
		charge.CancelAt(now) // the server's lack of room, not a wrong guess
		return nil, ErrThrottled
	}
	return func(right bool) {
		<-g.slots
		<-g.queue
		if right {
			charge.CancelAt(now)
		}
	}, nil
}

// enter takes a place among the running checks.
func (g *Guard) enter() bool {
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

// limiter finds the allowance of an address, or opens one.
func (g *Guard) limiter(addr netip.Addr) *rate.Limiter {
	key := guardKey(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	if e, ok := g.byAddr[key]; ok {
		g.recent.MoveToFront(e)
		return e.Value.(*guarded).limiter
	}
	for g.recent.Len() >= g.opts.MaxAddresses {
		oldest := g.recent.Back()
		delete(g.byAddr, oldest.Value.(*guarded).key)
		g.recent.Remove(oldest)
	}
	entry := &guarded{key, rate.NewLimiter(rate.Every(g.opts.Every), g.opts.Burst)}
	g.byAddr[key] = g.recent.PushFront(entry)
	return entry.limiter
}

// guardKey is the unit that shares one allowance. Peers without an address
// (unix sockets) share the zero key.
func guardKey(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap()
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	key, _ := addr.WithZone("").Prefix(bits)
	return key
}
