package mux

import (
	"bytes"
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

// Both ends detect a dead path, and not before the time for silence is over.
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
	conns := map[*Session]*ws.Conn{client: connOf(client), server: connOf(server)}
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

// A link whose path is far slower than its writer survives: data counts as a sign of
// life, pongs need not come in time.
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

// The peer's Close frame is answered, and is the reason for the session's end,
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
		eventually(t, "traffic", func() bool { return server.link.Received() > 1<<20 })
		if err := connOf(server).Close(ws.StatusGoingAway, "bye"); err != nil {
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

// A peer that breaks RFC 6455 is told by a Close frame.
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

// A small write does not wait behind bulk writers that have to wait.
func TestSmallWriteOvertakesBulk(t *testing.T) {
	cc, _ := newConns(t) // nobody acknowledges
	s := bareSession(cc, newSessionKey(), 16<<20)
	t.Cleanup(func() { s.link.Close(); s.link.Wait() })
	var writing sync.WaitGroup
	defer writing.Wait()
	defer s.link.Close()
	var written atomic.Int32
	const bulk = 32 << 10
	const many = 64
	for range many {
		writing.Go(func() {
			s.adapter.writeData(3, make([]byte, yamuxHeader+bulk), nil)
			written.Add(1)
		})
	}
	eventually(t, "a queue", func() bool { return s.Stats().Queued >= bulk/2 })
	if err := await(t, "keystroke", async(func() error { return s.adapter.writeData(5, make([]byte, yamuxHeader+frameHeader+1), nil) })); err != nil {
		t.Fatal(err)
	}
	if n := written.Load(); n == many {
		t.Error("nothing had to wait")
	}
}
