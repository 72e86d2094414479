package tunnel

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func relayBytes(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

type relayEnd struct {
	Transferred
	err error
}

// relayPair relays between two connections and returns their other ends.
func relayPair(t testing.TB, network string) (a, b streamConn, end func() relayEnd) {
	t.Helper()
	x, a := socketPair(t, network)
	y, b := socketPair(t, network)
	c := make(chan relayEnd, 1)
	go func() {
		n, err := Relay(x, y)
		c <- relayEnd{n, err}
	}()
	return a, b, func() relayEnd {
		t.Helper()
		return inTime(t, "Relay", func() relayEnd { return <-c })
	}
}

func TestRelayHalfClose(t *testing.T) {
	for _, network := range networks {
		for _, size := range []int{0, 1, BufferSize - 1, BufferSize, BufferSize + 1, 5 << 20} {
			a, b, end := relayPair(t, network)
			question, answer := relayBytes(1, size), relayBytes(2, size/2)
			go func() {
				a.Write(question)
				a.CloseWrite()
			}()
			if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, question) {
				t.Fatalf("%d bytes of %d, %v", len(got), size, err)
			}
			go func() {
				b.Write(answer)
				b.CloseWrite()
			}()
			if got, err := io.ReadAll(a); err != nil || !bytes.Equal(got, answer) {
				t.Fatalf("%d bytes of %d, %v", len(got), size/2, err)
			}
			if e := end(); e.err != nil || e.AToB != int64(size) || e.BToA != int64(size/2) {
				t.Errorf("size %d: %+v", size, e)
			}
		}
	}
}

// A reset of either end resets the other, in each state of the other direction.
func TestRelayReset(t *testing.T) {
	for _, who := range []string{"a", "b"} {
		for name, before := range map[string]func(leaves, stays streamConn){
			"idle":                  func(_, _ streamConn) {},
			"after its end":         func(leaves, stays streamConn) { leaves.CloseWrite(); stays.Read(make([]byte, 1)) },
			"after the other's end": func(leaves, stays streamConn) { stays.CloseWrite(); leaves.Read(make([]byte, 1)) },
			"with data unread":      func(_, stays streamConn) { stays.Write(make([]byte, 100)) },
		} {
			t.Run(who+"/"+name, func(t *testing.T) {
				a, b, end := relayPair(t, "tcp")
				if who == "b" {
					a, b = b, a
				}
				before(a, b)
				vanish(a)
				err := inTime(t, "the reset", func() error { _, err := io.Copy(io.Discard, b); return err })
				// If b has read a's end, it reads nothing but that.
				if name != "after its end" && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the other side reads %v", err)
				}
				if e := end(); e.err == nil {
					t.Error("the relay ended well")
				}
				if _, err := b.Write([]byte("x")); err == nil {
					b.Write([]byte("x"))
					t.Error("the other side may still write")
				}
			})
		}
	}
}

// A relay that waits for either side holds no buffer, and passes on the data that comes then.
func TestRelayBackAndForth(t *testing.T) {
	a, b, end := relayPair(t, "tcp")
	p := make([]byte, 8)
	for i := range byte(200) {
		from, to := a, b
		if i%2 == 1 {
			from, to = b, a
		}
		want := relayBytes(i, 8)
		from.Write(want)
		if _, err := io.ReadFull(to, p); err != nil || !bytes.Equal(p, want) {
			t.Fatal(p, err)
		}
	}
	a.CloseWrite()
	b.CloseWrite()
	if e := end(); e.err != nil || e.AToB != 800 || e.BToA != 800 {
		t.Fatalf("%+v", e)
	}
}

// A script is an Endpoint without capabilities.
type script struct {
	reads    chan []byte // closed at the end
	readErr  error       // at the end; nil means io.EOF
	accepts  int         // bytes before a write fails
	writeErr error
	stop     chan struct{}
	once     sync.Once
	got      bytes.Buffer
	ended    atomic.Bool
	aborted  atomic.Bool
	closed   atomic.Bool
}

func newScript(reads ...string) *script {
	s := &script{reads: make(chan []byte, len(reads)), stop: make(chan struct{}), accepts: 1 << 30}
	for _, r := range reads {
		s.reads <- []byte(r)
	}
	return s
}

func (s *script) Read(p []byte) (int, error) {
	select {
	case <-s.stop:
		return 0, errors.New("aborted")
	case b, ok := <-s.reads:
		if ok {
			return copy(p, b), nil
		}
	}
	if s.readErr != nil {
		return 0, s.readErr
	}
	return 0, io.EOF
}

func (s *script) Write(p []byte) (int, error) {
	n := min(len(p), s.accepts)
	s.accepts -= n
	s.got.Write(p[:n])
	if n < len(p) {
		return n, s.writeErr
	}
	return n, nil
}

func (s *script) CloseWrite() error { s.ended.Store(true); return nil }
func (s *script) Abort()            { s.aborted.Store(true); s.once.Do(func() { close(s.stop) }) }
func (s *script) Close() error      { s.closed.Store(true); return nil }

func TestRelayPlainEndpoints(t *testing.T) {
	a, b := newScript("one", "two"), newScript("three")
	close(a.reads)
	close(b.reads)
	n, err := Relay(a, b)
	if err != nil || n != (Transferred{6, 5}) || a.got.String() != "three" || b.got.String() != "onetwo" {
		t.Fatal(n, err, a.got.String(), b.got.String())
	}
	for _, e := range []*script{a, b} {
		if !e.ended.Load() || !e.closed.Load() || e.aborted.Load() {
			t.Error("an end was not passed on, or an endpoint not closed, or aborted")
		}
	}
}

// The bytes that a failed write took are counted, and the failure aborts both endpoints.
func TestRelayPartialWrite(t *testing.T) {
	a, b := newScript("onetwo"), newScript()
	b.accepts, b.writeErr = 4, errors.New("full")
	n, err := Relay(a, b)
	if err != b.writeErr || n != (Transferred{AToB: 4}) {
		t.Fatal(n, err)
	}
	for _, e := range []*script{a, b} {
		if e.ended.Load() || !e.closed.Load() || !e.aborted.Load() {
			t.Error("an endpoint was ended, or not closed, or not aborted")
		}
	}
}

func TestRelayReadFails(t *testing.T) {
	a, b := newScript("one"), newScript()
	a.readErr = errors.New("broken")
	close(a.reads)
	n, err := Relay(a, b)
	if err != a.readErr || n.AToB != 3 || b.got.String() != "one" || b.ended.Load() || !b.aborted.Load() {
		t.Fatal(n, err)
	}
}

// A puller is an Endpoint with the capability WriteFrom.
type puller struct {
	*script
	pulled, refused int // calls of writeFrom
	refuse          bool
}

func (p *puller) Capabilities() Capabilities { return Capabilities{WriteFrom: p.writeFrom} }

func (p *puller) writeFrom(read func(size int) (*Buffer, int, error)) (n int, readErr, writeErr error) {
	if p.refuse {
		p.refused++
		return 0, nil, nil
	}
	b, n, readErr := read(BufferSize)
	if n == 0 {
		return 0, readErr, nil
	}
	p.pulled++
	defer b.Free()
	n, writeErr = p.Write(b.Bytes[BufferHeadroom : BufferHeadroom+n])
	return n, readErr, writeErr
}

func relayBetween(t testing.TB, x, y Endpoint) relayEnd {
	t.Helper()
	return inTime(t, "Relay", func() relayEnd {
		n, err := Relay(x, y)
		return relayEnd{n, err}
	})
}

// After a bulk read the destination reads the next data from the socket. If it does not, the relay reads.
func TestRelayWriteFrom(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		x, peer := socketPair(t, "tcp")
		y := &puller{script: newScript(), refuse: refuse}
		close(y.reads)
		want := relayBytes(1, 10*BufferSize+1)
		go func() {
			peer.Write(want)
			peer.CloseWrite()
		}()
		e := relayBetween(t, x, y)
		if e.err != nil || e.AToB != int64(len(want)) || !bytes.Equal(y.got.Bytes(), want) || !y.ended.Load() {
			t.Fatalf("%+v, %d bytes arrived", e, y.got.Len())
		}
		if refuse && y.refused == 0 || !refuse && y.pulled == 0 {
			t.Error("writeFrom was not called")
		}
	}
}

func TestRelayWriteFromFails(t *testing.T) {
	x, peer := socketPair(t, "tcp")
	y := &puller{script: newScript()}
	y.accepts, y.writeErr = 3*BufferSize, errors.New("full")
	go peer.Write(make([]byte, 10*BufferSize))
	e := relayBetween(t, x, y)
	if e.err != y.writeErr || e.AToB != 3*BufferSize || y.ended.Load() || !y.aborted.Load() {
		t.Fatalf("%+v", e)
	}
}

// A spy is an Endpoint with the capability Watch; a test calls gone.
type spy struct {
	*script
	gone func()
}

func (s *spy) Capabilities() Capabilities {
	return Capabilities{Watch: func(gone func(), _ func() error) { s.gone = gone }}
}

// When a watched endpoint ends, the relay delivers its earlier data, reads nothing more from the other side, and
// then resets the other side.
func TestRelayWatchedEnd(t *testing.T) {
	x, peer := socketPair(t, "tcp")
	w := &spy{script: newScript("the ", "rest")}
	w.readErr = errors.New("reset by the other end")
	registered := make(chan struct{})
	done := make(chan relayEnd, 1)
	go func() {
		close(registered)
		n, err := Relay(x, w)
		done <- relayEnd{n, err}
	}()
	<-registered
	b := make([]byte, 8)
	if _, err := io.ReadFull(peer, b); err != nil || string(b) != "the rest" {
		t.Fatal(string(b), err)
	}
	w.gone()
	time.Sleep(time.Millisecond) // both orders must work
	close(w.reads)
	e := inTime(t, "Relay", func() relayEnd { return <-done })
	if e.err != w.readErr || e.BToA != 8 {
		t.Fatalf("%+v", e)
	}
	if _, err := peer.Read(b); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
}

// When a watched endpoint ends while the other side does not read, the other side is soon reset.
func TestRelayWatchedEndBlocked(t *testing.T) {
	x, peer := socketPair(t, "tcp")
	w := &spy{script: newScript()}
	w.reads = make(chan []byte)
	done := make(chan relayEnd, 1)
	go func() {
		n, err := Relay(x, w)
		done <- relayEnd{n, err}
	}()
	chunk := make([]byte, BufferSize)
	for full := false; !full; {
		select {
		case w.reads <- chunk:
		case <-time.After(200 * time.Millisecond):
			full = true
		}
	}
	w.gone()
	if e := inTime(t, "Relay", func() relayEnd { return <-done }); e.err == nil {
		t.Fatal("the relay ended well")
	}
	if err := inTime(t, "the reset", func() error { _, err := io.Copy(io.Discard, peer); return err }); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
}

// BenchmarkRelay relays writes of 64 KiB from one TCP connection to another.
func BenchmarkRelay(b *testing.B) {
	x, y, end := relayPair(b, "tcp")
	p := make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	go func() {
		for range b.N {
			x.Write(p)
		}
		x.CloseWrite()
	}()
	b.ResetTimer()
	if n, err := io.Copy(io.Discard, struct{ io.Reader }{y}); err != nil || n != int64(b.N)*int64(len(p)) {
		b.Fatal(n, err)
	}
	b.StopTimer()
	y.CloseWrite()
	end()
}

// BenchmarkRelayPingPong relays one byte in each direction.
func BenchmarkRelayPingPong(b *testing.B) {
	x, y, end := relayPair(b, "tcp")
	p := make([]byte, 1)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		x.Write(p)
		y.Read(p)
		y.Write(p)
		x.Read(p)
	}
	b.StopTimer()
	x.CloseWrite()
	y.CloseWrite()
	end()
}
