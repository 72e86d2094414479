package mux

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"adit/internal/testnet"
	"adit/tunnel/ws"
)

// A path that has gone dead is noticed by both ends, not before its time.
func TestSilence(t *testing.T) {
	t.Parallel()
	const silence = 400 * time.Millisecond
	client, server, path := newPairVia(t, &Config{Silence: silence, PingInterval: 50 * time.Millisecond})
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	if _, err := far.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	io.ReadFull(near, make([]byte, 1))
	// An idle path lives on its pings alone.
	select {
	case <-client.Done():
		t.Fatal(client.Err())
	case <-server.Done():
		t.Fatal(server.Err())
	case <-time.After(3 * silence):
	}
	conns := map[*Session]*ws.Conn{client: carrierOf(client).conn, server: carrierOf(server).conn}
	path.Stall(true)
	for name, s := range map[string]*Session{"client": client, "server": server} {
		await(t, "end of the "+name, s.Done())
		if err := s.Err(); !errors.Is(err, ErrLinkLost) {
			t.Errorf("%s: %v", name, err)
		}
		if d := time.Since(conns[s].LastRead()); d < silence {
			t.Errorf("%s: given up after %v", name, d)
		}
	}
	path.Stall(false)
}

// A link that carries data in one direction, far more slowly than it comes,
// has no need of pongs in time.
func TestSlowPathLives(t *testing.T) {
	t.Parallel()
	const silence = time.Second
	cfg := &Config{Silence: silence, PingInterval: 50 * time.Millisecond}
	cc, sc := newConnsVia(t, func(addr string) string { return throttle(t, addr, 64<<10) })
	client, server := newPairOn(t, cc, sc, cfg, cfg)
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	writer, _ := fill(t, near) // never finishes
	for end := time.Now().Add(4 * silence); time.Now().Before(end); {
		if _, err := io.CopyN(io.Discard, far, 16<<10); err != nil {
			t.Fatal(err)
		}
	}
	near.Reset(Cancelled)
	<-writer
}

// throttle passes bytes on at a rate, with small buffers before it.
func throttle(t testing.TB, backend string, perSecond int) string {
	return testnet.Serve(t, func(front net.Conn) {
		back, err := net.Dial("tcp", backend)
		if err != nil {
			return
		}
		var wg sync.WaitGroup
		pump := func(dst, src net.Conn) {
			src.(*net.TCPConn).SetReadBuffer(256 << 10)
			b := make([]byte, perSecond/100)
			for {
				n, err := src.Read(b)
				if err != nil {
					dst.Close()
					return
				}
				time.Sleep(time.Duration(n) * time.Second / time.Duration(perSecond))
				dst.Write(b[:n])
			}
		}
		wg.Go(func() { pump(front, back) })
		pump(back, front)
		wg.Wait()
	})
}

// A probe has its own, shorter bound; one that was answered leaves nothing
// behind, neither its bound nor a gap for the next.
func TestProbe(t *testing.T) {
	t.Parallel()
	client, server, path := newPairVia(t, &Config{PingInterval: time.Hour, Silence: time.Hour})
	answered := func() bool {
		c := carrierOf(client)
		by := c.probeBy.Load()
		return by == 0 || c.answered(client.link, by)
	}
	for range 3 {
		client.Probe()
		eventually(t, "an answer", answered)
	}
	path.Stall(true)
	start := time.Now()
	client.Probe()
	await(t, "end of the session", client.Done())
	if err := client.Err(); !errors.Is(err, ErrLinkLost) {
		t.Fatal(err)
	}
	if d := time.Since(start); d < probeTimeout {
		t.Errorf("given up after %v", d)
	}
	if err := server.Err(); err != nil {
		t.Errorf("the other end, which has not asked: %v", err)
	}
	path.Stall(false)
}

func TestProbeAnswered(t *testing.T) {
	t.Parallel()
	client, _ := newPair(t, &Config{PingInterval: time.Hour, Silence: time.Hour})
	client.Probe()
	select {
	case <-client.Done():
		t.Fatal(client.Err())
	case <-time.After(probeTimeout + probeTimeout/4):
	}
	if carrierOf(client).probeBy.Load() != 0 {
		t.Error("the probe is still pending")
	}
}

// Only a pong that answers a ping of ours counts.
func TestForgedPongs(t *testing.T) {
	client, _ := newPair(t, nil)
	eventually(t, "a measured round-trip time", func() bool { return client.RTT() > 0 })
	before := client.RTT()
	for _, v := range []uint64{1 << 63, 1<<64 - 1, 1<<63 - 1, uint64(time.Since(client.link.start) + time.Hour)} {
		client.link.pong(binary.BigEndian.AppendUint64(nil, v))
	}
	client.link.pong(nil)
	client.link.pong(make([]byte, 9))
	if after := client.RTT(); after != before {
		t.Errorf("the round-trip time became %v", after)
	}
	if client.link.pong(make([]byte, 8)); client.RTT() <= 0 {
		t.Errorf("the round-trip time became %v", client.RTT())
	}
}

// The peer's Close frame is answered, and is what the session's end tells,
// however busy the writer is at that moment.
func TestCloseFrame(t *testing.T) {
	for range 20 {
		client, server := newPair(t, nil)
		near, far := openPair(t, client, server)
		go io.Copy(io.Discard, far)
		writer := async(func() error {
			p := make([]byte, 64<<10)
			for {
				if _, err := near.Write(p); err != nil {
					return err
				}
			}
		})
		eventually(t, "traffic", func() bool { return server.link.received.Load() > 1<<20 })
		if err := carrierOf(server).conn.Close(ws.StatusGoingAway, "bye"); err != nil {
			t.Fatalf("the Close frame was not answered: %v", err)
		}
		wantLost(t, "write", await(t, "end of the write", writer))
		await(t, "end of the session", client.Done())
		var frame *ws.CloseError
		if err := client.Err(); !errors.As(err, &frame) || frame.Code != ws.StatusGoingAway || frame.Reason != "bye" {
			t.Fatal(err)
		}
		near.Close()
		far.Close()
	}
}

// A peer that breaks RFC 6455 learns of it from a Close frame.
func TestWebSocketFault(t *testing.T) {
	r, s := newRawClient(t, nil)
	if _, err := r.conn.NetConn().Write([]byte{0xf2, 0x80, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	await(t, "end of the session", s.Done())
	var fault *ws.ProtocolError
	if err := s.Err(); !errors.As(err, &fault) {
		t.Fatal(err)
	}
}

// Acknowledgements free the other end's memory, in bulk and when it is quiet,
// and do not make each other for ever.
func TestAcknowledgements(t *testing.T) {
	client, server := newPair(t, &Config{PingInterval: time.Hour})
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	held := func(s *Session) int {
		s.link.mu.Lock()
		defer s.link.mu.Unlock()
		return s.link.ring.held()
	}
	for _, size := range []int{1, 100, 1 << 20, 8 << 20} {
		sent := async(func() error { _, err := near.Write(make([]byte, size)); return err })
		if _, err := io.CopyN(io.Discard, far, int64(size)); err != nil {
			t.Fatal(err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		eventually(t, "all is acknowledged", func() bool { return held(client) == 0 && held(server) == 0 })
	}
	last := carrierOf(client).conn.LastRead()
	time.Sleep(10 * ackDelay)
	if now := carrierOf(client).conn.LastRead(); now.After(last.Add(2 * ackDelay)) {
		t.Error("something is still going to and fro")
	}
}

// The bytes of a link arrive in order and whole through a path that cuts them
// anywhere, both ways at once.
func TestChoppedPath(t *testing.T) {
	client, server, path := newPairVia(t, nil)
	near, far := openPair(t, client, server)
	for _, chop := range []int{1, 7, 1000} {
		path.Chop(chop)
		n := 2000 * chop
		want := randomBytes(uint64(chop), n)
		var all sync.WaitGroup
		for _, st := range []*Stream{near, far} {
			all.Go(func() { st.Write(want) })
			all.Go(func() {
				got := make([]byte, n)
				if _, err := io.ReadFull(st, got); err != nil || !bytes.Equal(got, want) {
					t.Errorf("pieces of %d: %v", chop, err)
				}
			})
		}
		all.Wait()
	}
	near.Close()
	far.Close()
}

// Who writes little does not wait behind those who write much and have to wait.
func TestLittleOvertakesMuch(t *testing.T) {
	s, _ := bareLink(t) // nobody acknowledges
	s.link.mu.Lock()
	s.link.cfg.ring = 16 << 20
	s.link.mu.Unlock()
	var writing sync.WaitGroup
	defer writing.Wait()
	defer s.link.Close()
	var written atomic.Int32
	const many = 64
	for range many {
		writing.Go(func() {
			s.conn.writeData(3, make([]byte, yamuxHeader+firstPiece))
			written.Add(1)
		})
	}
	eventually(t, "a queue", func() bool { return s.Stats().Queued >= firstPiece/2 })
	if err := await(t, "keystroke", async(func() error { return s.conn.writeData(5, make([]byte, yamuxHeader+frameHeader+1)) })); err != nil {
		t.Fatal(err)
	}
	if n := written.Load(); n == many {
		t.Error("nothing had to wait")
	}
}

// What waits for more to leave with does not hold up who waits for little to
// be queued.
func TestSoonHoldsNobodyUp(t *testing.T) {
	client, _ := newPair(t, nil)
	h := yamuxFrame(yamuxWindowUpdate, 0, controlStream, 0) // credit of nothing
	client.conn.writing.Lock()
	for range MaxFrame / len(h) {
		if err := client.link.writeSoon(h); err != nil {
			t.Fatal(err)
		}
	}
	client.conn.writing.Unlock()
	if err := await(t, "lull", async(client.link.awaitLull)); err != nil {
		t.Fatal(err)
	}
}

// What waits for more to leave with does not wait for ever.
func TestSoonLeaves(t *testing.T) {
	client, server := newPair(t, nil)
	near, _ := openPair(t, client, server)
	if err := near.Result(); err != nil {
		t.Fatal(err)
	}
	l := client.link
	eventually(t, "silence", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		quiet := l.arrivedLocked() == l.ackSent && l.ring.unsent() == 0
		if quiet {
			l.ackTimer.Stop()
		}
		return quiet
	})
	client.conn.writing.Lock()
	err := l.writeSoon(yamuxFrame(yamuxWindowUpdate, 0, controlStream, 0))
	client.conn.writing.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "what is not urgent to be sent", func() bool { return client.Stats().Queued == 0 })
}

// The end of a stream whose directions have ended is no message of its own: it
// leaves with what is written next.
func TestEndLeavesWithTheNext(t *testing.T) {
	client, server := newPair(t, nil)
	near, far := openPair(t, client, server)
	l := client.link
	l.mu.Lock()
	l.ackTimer.Stop()
	l.ackTimer = stopped(func() {}) // there is no later
	l.mu.Unlock()
	for _, st := range []*Stream{far, near} {
		if err := st.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := near.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	eventually(t, "the ends of the directions to be sent", func() bool { return client.Stats().Queued == 0 })
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	waits := l.ring.tail == l.soonTo
	l.mu.Unlock()
	if !waits {
		t.Error("the end does not wait")
	}
	openPair(t, client, server)
	eventually(t, "all to be sent", func() bool { return client.Stats().Queued == 0 })
}
