package testnet

import (
	"net"
	"sync"
	"testing"
)

// Fault is a TCP relay in front of a backend that misbehaves on demand. Its
// methods may be called at any time and from any goroutine.
type Fault struct {
	*server

	mu      sync.Mutex
	backend string
	change  *sync.Cond // of the fields below, and of the wakeups of Stall
	pairs   map[*pair]bool
	stall   bool
	chop    int
	quota   int64 // bytes until a cut, counted over both directions; <0 none
	total   int   // connections so far
	down    bool
	gone    bool
}

// pair is one relayed connection.
type pair struct {
	front, back net.Conn
	cut         bool // guarded by Fault.mu
}

// NewFault starts a relay to backend, a HOST:PORT. Until told otherwise it
// passes everything on.
func NewFault(t testing.TB, backend string) *Fault {
	t.Helper()
	f := &Fault{backend: backend, pairs: map[*pair]bool{}, quota: -1}
	f.change = sync.NewCond(&f.mu)
	f.server = newServer(t, Listen(t))
	// Runs before the server's own cleanup, which waits for the pumps.
	t.Cleanup(func() {
		f.mu.Lock()
		f.gone = true
		f.change.Broadcast()
		f.mu.Unlock()
	})
	f.start(f.serve)
	return f
}

// Addr returns the relay's HOST:PORT. It stays the same across Down and Up.
func (f *Fault) Addr() string { return f.addr }

// SetBackend makes later connections go to another backend.
func (f *Fault) SetBackend(backend string) {
	f.mu.Lock()
	f.backend = backend
	f.mu.Unlock()
}

// Total returns how many connections have been accepted and relayed so far.
func (f *Fault) Total() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total
}

// Cut resets every open connection, on both sides. Both peers see a RST.
func (f *Fault) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for p := range f.pairs {
		f.cutLocked(p)
	}
}

func (f *Fault) cutLocked(p *pair) {
	p.cut = true
	for _, c := range []net.Conn{p.front, p.back} {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	f.change.Broadcast()
}

// CutAfter resets every open connection once n more bytes have passed, counted
// over all connections and both directions. A negative n means never.
func (f *Fault) CutAfter(n int64) {
	f.mu.Lock()
	f.quota = n
	f.mu.Unlock()
}

// Stall stops (or resumes) passing bytes on, without closing anything and for
// new connections too: a path that has gone dead.
func (f *Fault) Stall(on bool) {
	f.mu.Lock()
	f.stall = on
	f.change.Broadcast()
	f.mu.Unlock()
}

// Chop passes bytes on in pieces of at most n; 0 means as they come.
func (f *Fault) Chop(n int) {
	f.mu.Lock()
	f.chop = n
	f.mu.Unlock()
}

// Down refuses new connections and resets the open ones.
func (f *Fault) Down() {
	s := f.server
	s.mu.Lock()
	if s.ln != nil {
		s.ln.Close()
		s.ln = nil
	}
	s.mu.Unlock()
	f.mu.Lock()
	f.down = true
	f.mu.Unlock()
	f.Cut()
}

// Up undoes Down, on the same port.
func (f *Fault) Up(t testing.TB) {
	t.Helper()
	s := f.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ln != nil || s.ended {
		return
	}
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatalf("testnet: listen again on %s: %v", s.addr, err)
	}
	f.mu.Lock()
	f.down = false
	f.mu.Unlock()
	s.ln = ln
	s.wg.Go(func() { s.accept(ln) })
}

func (f *Fault) serve(front net.Conn) {
	f.mu.Lock()
	backend := f.backend
	f.mu.Unlock()
	back, err := f.dial(backend)
	if err != nil {
		front.(*net.TCPConn).SetLinger(0)
		return
	}
	defer f.release(back)
	p := &pair{front: front, back: back}
	f.mu.Lock()
	f.pairs[p] = true
	f.total++
	if f.down {
		f.cutLocked(p) // accepted before Down
	}
	f.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { f.pump(p, back, front) })
	f.pump(p, front, back)
	wg.Wait()
	f.mu.Lock()
	delete(f.pairs, p)
	f.mu.Unlock()
}

// pump moves bytes from src to dst. A reader puts what comes into a queue, so
// that it sees a reset also while dst is stalled.
func (f *Fault) pump(p *pair, dst, src net.Conn) {
	queue := make(chan []byte, 1024)
	var wg sync.WaitGroup
	var readErr error
	wg.Go(func() {
		defer close(queue)
		buf := make([]byte, 64<<10)
		for {
			n, err := src.Read(buf)
			if n > 0 {
				queue <- append([]byte(nil), buf[:n]...)
			}
			if err != nil {
				readErr = err
				return
			}
		}
	})
	ok := true
	for data := range queue {
		// After a failure the rest is dropped, so that the reader ends.
		ok = ok && f.forward(p, dst, data)
	}
	wg.Wait()
	if ok && isEOF(readErr) {
		f.mu.Lock()
		f.waitLocked(p)
		f.mu.Unlock()
		closeWrite(dst)
		return
	}
	// A reset on one side is a reset on the other.
	f.mu.Lock()
	f.cutLocked(p)
	f.mu.Unlock()
}

// waitLocked waits while the relay is stalled.
func (f *Fault) waitLocked(p *pair) {
	for f.stall && !p.cut && !f.gone {
		f.change.Wait()
	}
}

func (f *Fault) forward(p *pair, dst net.Conn, data []byte) bool {
	for len(data) > 0 {
		f.mu.Lock()
		f.waitLocked(p)
		n := len(data)
		if f.chop > 0 {
			n = min(n, f.chop)
		}
		cutNow := false
		if f.quota >= 0 {
			if int64(n) >= f.quota {
				n, cutNow = int(f.quota), true
			}
			f.quota -= int64(n)
		}
		dead := p.cut || f.gone
		f.mu.Unlock()
		if dead {
			return false
		}
		if n > 0 {
			if _, err := dst.Write(data[:n]); err != nil {
				f.mu.Lock()
				f.cutLocked(p) // unblocks the reader
				f.mu.Unlock()
				return false
			}
		}
		if cutNow {
			f.CutAfter(-1)
			f.Cut()
			return false
		}
		data = data[n:]
	}
	return true
}
