package testnet

import (
	"net"
	"sync"
	"testing"
)

// Fault is a TCP relay to a backend that injects faults. It is safe for
// concurrent use.
type Fault struct {
	*server

	// Guarded by mu.
	mu      sync.Mutex
	change  *sync.Cond // stall, a pair's cut or gone has changed
	backend string
	pairs   map[*pair]bool
	stall   bool
	chop    int
	quota   int64 // bytes until a cut, over both directions; negative: none
	total   int   // connections so far
	down    bool
	gone    bool // the test has ended
}

// pair is one relayed connection.
type pair struct {
	front, back net.Conn
	cut, frozen bool // guarded by Fault.mu
}

// NewFault starts a relay to backend, a HOST:PORT. It injects no fault until
// one of its methods is called.
func NewFault(t testing.TB, backend string) *Fault {
	t.Helper()
	f := &Fault{backend: backend, pairs: map[*pair]bool{}, quota: -1}
	f.change = sync.NewCond(&f.mu)
	f.server = newServer(t, Listen(t))
	// This cleanup runs before the server's, which waits for the pumps.
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

// Cut resets every open connection with a RST to both peers.
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

// CutAfter resets every open connection after n more bytes, counted over all
// connections and both directions. A negative n means never.
func (f *Fault) CutAfter(n int64) {
	f.mu.Lock()
	f.quota = n
	f.mu.Unlock()
}

// Stall stops or resumes forwarding, on new connections too, without closing
// any: a dead path.
func (f *Fault) Stall(on bool) {
	f.mu.Lock()
	f.stall = on
	f.change.Broadcast()
	f.mu.Unlock()
}

// Freeze stops forwarding on the open connections for good, without closing any:
// a middlebox that has forgotten them. New connections work.
func (f *Fault) Freeze() {
	f.mu.Lock()
	for p := range f.pairs {
		p.frozen = true
	}
	f.mu.Unlock()
}

// Chop forwards at most n bytes per write; 0 means no limit.
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

// pump forwards bytes from src to dst. A goroutine reads into a queue, so that
// it notices a reset of src while dst is stalled.
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
		// After a failure the rest is discarded, so that the reader ends.
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
	// A reset of one side resets the other.
	f.mu.Lock()
	f.cutLocked(p)
	f.mu.Unlock()
}

// waitLocked waits while the relay is stalled.
func (f *Fault) waitLocked(p *pair) {
	for (f.stall || p.frozen) && !p.cut && !f.gone {
		f.change.Wait()
	}
}

// forward writes data to dst, subject to the faults. It returns false after a
// failure or a cut.
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
