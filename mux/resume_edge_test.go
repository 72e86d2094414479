package mux

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"adit/mux/link"
	"adit/tunnel/ws"
)

// bareLink returns a client's link and the connection at its other end.
func bareLink(t *testing.T) (*Session, *ws.Conn) {
	cc, sc := newConns(t)
	s := bareSession(cc, newSessionKey(), modelSendBuffer)
	t.Cleanup(func() { s.link.Close(); s.link.Wait() })
	return s, sc
}

// nextData returns the acknowledgement and the bytes of the next data message, or the
// next acknowledgement alone.
func nextData(t *testing.T, conn *ws.Conn) (ack uint64, data []byte) {
	t.Helper()
	if _, err := conn.NextMessage(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil || len(b) < 1+8 {
		t.Fatalf("%x, %v", b, err)
	}
	return binary.BigEndian.Uint64(b[1:]), b[1+8:]
}

func dataMessage(ack uint64, data ...byte) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{2}, ack), data...)
}

// Bytes that the old connection brought after the client had told its offset are
// acknowledged when they come again: the server counts from that offset.
func TestResumeAcknowledgesWhatComesAgain(t *testing.T) {
	s, old := bareLink(t)
	read := make(chan byte, 1000)
	reader := async(func() error {
		for b := make([]byte, 1); ; {
			if _, err := s.link.Read(b); err != nil {
				return err
			}
			read <- b[0]
		}
	})
	old.WriteMessage(ws.OpBinary, dataMessage(0, 0, 1, 2, 3))
	eventually(t, "four bytes", func() bool { return s.link.Received() == 4 })
	cc, next := newConns(t)
	resumed1 := async(func() error { _, err := s.Resume(t.Context(), cc); return err })
	ask, err := readFirst(next)
	if err != nil || ask.resume == nil || ask.resume.received != 4 {
		t.Fatalf("%+v, %v", ask.resume, err)
	}
	old.WriteMessage(ws.OpBinary, dataMessage(0, 4, 5, 6, 7, 8))
	eventually(t, "nine bytes", func() bool { return s.link.Received() == 9 })
	next.WriteMessage(ws.OpBinary, appendHello(nil, hello{version: Version, maxStreams: 1, credit: 1, resumed: &resumed{start: 4}}))
	if err := await(t, "resumption", resumed1); err != nil {
		t.Fatal(err)
	}
	if err := s.link.Write([]byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	if ack, data := nextData(t, next); ack != 4 || string(data) != "x" {
		t.Fatalf("%q with acknowledgement of %d, 4 are known", data, ack)
	}
	next.WriteMessage(ws.OpBinary, dataMessage(1, 4, 5))
	if ack, _ := nextData(t, next); ack != 6 {
		t.Fatalf("acknowledgement of %d, 6 have come again", ack)
	}
	next.WriteMessage(ws.OpBinary, dataMessage(1, 6, 7, 8, 9))
	if ack, _ := nextData(t, next); ack != 10 {
		t.Fatalf("acknowledgement of %d, 10 have come", ack)
	}
	for want := range byte(10) {
		if got := <-read; got != want {
			t.Fatalf("byte %d is %d", want, got)
		}
	}
	s.link.Close()
	await(t, "end of the reader", reader)
}

// watchedConn counts how it is interrupted.
type watchedConn struct {
	*ws.Conn
	mu    sync.Mutex
	both  int // Interrupt
	reads int // StopReadingAfter
}

func (c *watchedConn) Interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.both++
	c.Conn.Interrupt()
}

func (c *watchedConn) StopReadingAfter(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	c.Conn.StopReadingAfter(d)
}

// A writer that was blocked on a connection which another has superseded does not
// make the reader wait there.
func TestSupersededReaderGoesOn(t *testing.T) {
	_, conn := newConns(t)
	watched := &watchedConn{Conn: conn}
	s := bareSession(watched, newSessionKey(), modelSendBuffer)
	if err := conn.NetConn().(*net.TCPConn).SetWriteBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	writing.Go(func() { s.link.Write(make([]byte, 32<<20), nil) }) // nobody reads it
	defer func() { s.link.Close(); s.link.Wait(); writing.Wait() }()
	stuck, since := -1, time.Now()
	eventually(t, "a writer that is stuck", func() bool {
		if n := s.Stats().Queued; n != stuck {
			stuck, since = n, time.Now()
		}
		return time.Since(since) > 100*time.Millisecond
	})
	if _, _, err := s.link.Detach(0); err != nil {
		t.Fatal(err)
	}
	far, near := newConns(t)
	if err := s.link.Attach(near); err != nil {
		t.Fatal(err)
	}
	nextData(t, far) // the writer has turned to the next connection
	watched.mu.Lock()
	defer watched.mu.Unlock()
	if watched.both == 0 || watched.reads > 0 {
		t.Errorf("interrupted %d times, and the reader alone %d times", watched.both, watched.reads)
	}
}

// The store's list of detached sessions is right although calls of review overtake
// each other.
func TestReviewOvertaken(t *testing.T) {
	g := newGateway(t, nil)
	client, server := g.session(t, "/", nil)
	g.path.Cut()
	eventually(t, "a session that waits", func() bool { n, _, _ := g.store.Detached(); return n == 1 })
	server.onUp(Resumption{}) // of a connection that has been lost since
	if n, bytes, _ := g.store.Detached(); n != 1 || bytes == 0 {
		t.Errorf("%d sessions with %d bytes wait", n, bytes)
	}
	await(t, "loss", client.Down())
	if _, err := client.Resume(t.Context(), g.mustDial(t, "/")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no session that waits", func() bool { n, _, _ := g.store.Detached(); return n == 0 })
	server.onDown(ErrLinkLost) // before that connection came
	if n, bytes, _ := g.store.Detached(); n != 0 || bytes != 0 {
		t.Errorf("%d sessions with %d bytes wait", n, bytes)
	}
}

// A session that is to end with its connection keeps unacknowledged bytes as long as
// an attempt that has begun before may still migrate it.
func TestEndWithConnectionDuringResumption(t *testing.T) {
	s, old := bareLink(t)
	s.link.Write([]byte("before "), nil)
	nextData(t, old)
	s.EndWithConnection()
	s.link.Write([]byte("after"), nil)
	nextData(t, old)
	cc, next := newConns(t)
	if err := s.link.Migrate(cc, 0, 7, 0); err != nil {
		t.Fatal(err)
	}
	if _, data := nextData(t, next); string(data) != "after" {
		t.Errorf("%q comes again", data)
	}
	if next, err := s.Resume(t.Context(), cc); next != nil || !errors.Is(err, ErrNotResumable) {
		t.Errorf("%v, %v", next, err)
	}
}

// A session that is to end with its connection migrates to one for which it has just
// been detached, and sends its close message there.
func TestEndWithConnectionDetached(t *testing.T) {
	s, old := bareLink(t)
	s.link.Write([]byte("last bytes"), nil)
	nextData(t, old)
	s.EndWithConnection()
	if _, _, err := s.link.Detach(0); err != nil {
		t.Fatal(err)
	}
	s.EndWithConnection()
	finished := async(func() error { s.link.Finish(CloseAway, "stopping"); return nil })
	far, near := newConns(t)
	if err := s.link.Attach(near); err != nil {
		t.Fatal(err)
	}
	if _, data := nextData(t, far); string(data) != "last bytes" {
		t.Fatalf("%q", data)
	}
	go s.link.Read(make([]byte, 1)) // acknowledgements
	far.WriteMessage(ws.OpBinary, binary.BigEndian.AppendUint64([]byte{byte(link.MessageAck)}, 10))
	wantCloseMessage(t, far)
	await(t, "end", finished)
}

// wantCloseMessage reads the next message, which must be a close message.
func wantCloseMessage(t *testing.T, conn *ws.Conn) {
	t.Helper()
	if _, err := conn.NextMessage(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); err != nil || link.MessageType(b[0]) != link.MessageClose {
		t.Fatalf("instead of a close message came %x, %v", b, err)
	}
}

// It does so also when there is nothing left to send.
func TestEndWithConnectionDetachedIdle(t *testing.T) {
	s, _ := bareLink(t)
	s.EndWithConnection()
	if _, _, err := s.link.Detach(0); err != nil {
		t.Fatal(err)
	}
	finished := async(func() error { s.link.Finish(CloseAway, "stopping"); return nil })
	far, near := newConns(t)
	if err := s.link.Attach(near); err != nil {
		t.Fatal(err)
	}
	wantCloseMessage(t, far)
	await(t, "end", finished)
}

// If that connection does not come, the session is over.
func TestEndWithConnectionAttachFailed(t *testing.T) {
	s, _ := bareLink(t)
	s.EndWithConnection()
	if _, _, err := s.link.Detach(0); err != nil {
		t.Fatal(err)
	}
	if s.link.AttachFailed(net.ErrClosed) {
		t.Error("it waits")
	}
	if err := s.link.Err(); !errors.Is(err, ErrLinkLost) || !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// An answer to a resumption that cannot be sent costs the session its connection, if
// it had one, and OnDown is called once.
func TestAnswerNotSent(t *testing.T) {
	var downs atomic.Int64
	g := newGateway(t, &Config{OnDown: func(error) { downs.Add(1) }})
	client, server := g.session(t, "/", nil)
	lost := server.Down()
	for range 3 {
		_, dead := newConns(t)
		dead.CloseNow()
		client.attempt++
		ask := &resumption{id: client.key.id, attempt: client.attempt, received: client.link.Received()}
		ask.proof = client.key.sign(ask)
		if _, err := server.takeOver(t.Context(), dead, "/", ask); err == nil {
			t.Fatal("resumed over a connection that is closed")
		}
		await(t, "loss of the connection", lost)
		if n, _, _ := g.store.Detached(); n != 1 || downs.Load() != 1 {
			t.Errorf("%d wait, %d losses were told", n, downs.Load())
		}
	}
	await(t, "the client's loss", client.Down()) // it was detached
	if next, err := client.Resume(t.Context(), g.mustDial(t, "/")); err != nil || next != client {
		t.Error(err)
	}
}

// A slow refusal does not delay a valid attempt.
func TestSlowRefusal(t *testing.T) {
	g := newGateway(t, nil)
	client, server := g.session(t, "/", nil)
	conn := g.mustDial(t, "/")
	own := client.cfg.hello()
	own.resume = &resumption{id: client.key.id} // attempt 0
	own.resume.proof = client.key.sign(own.resume)
	if _, err := askHello(conn, own); err == nil {
		t.Fatal("attempt 0 counts")
	}
	select { // while the refused connection is not closed yet
	case server.resuming <- struct{}{}:
		<-server.resuming
	default:
		t.Error("the next attempt would have to wait")
	}
}

// A session that ends while it is detached for a migration has lost its connection.
func TestEndWhileDetached(t *testing.T) {
	s, _ := bareLink(t)
	lost := s.Down()
	if _, _, err := s.link.Detach(0); err != nil {
		t.Fatal(err)
	}
	if closed(lost) {
		t.Error("a move is told as a loss")
	}
	s.link.Close()
	if !closed(lost) {
		t.Error("the end is not told as a loss")
	}
}

// The time for a stream's target does not run while there is no connection.
func TestReadTargetAcrossResumption(t *testing.T) {
	cfg := &Config{OpenTimeout: 200 * time.Millisecond}
	g := newGateway(t, cfg)
	client, server := g.session(t, "/", nil)
	defer func() { client.Close(); server.Close() }() // or closing the streams would wait for a connection
	open := func() (*Stream, <-chan error) {
		ys, err := client.yamux.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		near := client.addStream(ys, true)
		t.Cleanup(func() { near.Close() })
		client.control.send(controlFrame{}) // takes the opening along
		far, err := server.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { far.Close() })
		return near, async(func() error { _, err := far.ReadTarget(); return err })
	}
	if _, target := open(); await(t, "a timeout", target) == nil {
		t.Error("a stream without a target has one")
	}
	near, target := open()
	g.path.Cut()
	await(t, "loss", client.Down())
	await(t, "loss", server.Down())
	select {
	case err := <-target:
		t.Fatalf("given up while there is no connection: %v", err)
	case <-time.After(3 * cfg.OpenTimeout):
	}
	if _, err := client.Resume(context.Background(), g.mustDial(t, "/")); err != nil {
		t.Fatal(err)
	}
	near.writeRaw(appendOpen(make([]byte, yamuxHeader), anywhere))
	if err := await(t, "target", target); err != nil {
		t.Error(err)
	}
}

// A cut in the first round trip, before the server has the control stream, is as
// harmless as a later one: the client may have opened streams by then.
func TestResumeFirstRoundTrip(t *testing.T) {
	for range 20 {
		g := newGateway(t, nil)
		client, err := Client(t.Context(), g.mustDial(t, "/"), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		g.path.Cut()
		await(t, "loss of the connection", client.Down())
		opened := async(func() error {
			near, err := client.Open(t.Context(), anywhere)
			if err == nil {
				_, err = near.Write([]byte("first"))
			}
			return err
		})
		if next, err := client.Resume(t.Context(), g.mustDial(t, "/")); err != nil || next != client {
			t.Fatalf("%p, %v; %v", next, err, client.Err())
		}
		if err := await(t, "stream", opened); err != nil {
			t.Fatal(err)
		}
		server := await(t, "session", g.started)
		t.Cleanup(func() { server.Close() })
		far, err := server.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := far.ReadTarget(); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(far, got); err != nil || string(got) != "first" {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

// A client that sends a hello and disappears leaves nothing behind.
func TestNeverBegun(t *testing.T) {
	cfg := &Config{HandshakeTimeout: 100 * time.Millisecond, ResumeTimeout: 100 * time.Millisecond}
	g := newGateway(t, cfg)
	conn := g.mustDial(t, "/")
	if _, err := askHello(conn, hello{version: Version, maxStreams: 1, credit: 1 << 16, hold: 1000}); err != nil {
		t.Fatal(err)
	}
	conn.CloseNow()
	if err := await(t, "end", g.refused); !errors.Is(err, ErrLinkLost) {
		t.Error(err)
	}
	if n, bytes, _ := g.store.Detached(); n != 0 || bytes != 0 || len(g.store.sessions) != 0 {
		t.Errorf("%d sessions with %d bytes are left", n, bytes)
	}
}

// EndOldest ends what has been detached for longest of one owner, and nothing else.
func TestEndOldest(t *testing.T) {
	g := newGateway(t, nil)
	var servers []*Session
	for _, owner := range []string{"/bob", "/alice", "/alice", "/alice"} {
		_, s := g.session(t, owner, nil)
		servers = append(servers, s)
	}
	for i, s := range servers[:3] {
		connOf(s).CloseNow()
		eventually(t, "one more that is detached", func() bool { n, _, _ := g.store.Detached(); return n == i+1 })
	}
	for _, want := range []*Session{servers[1], servers[2], nil} {
		if got := g.store.EndOldest(servers[1].owner); got != want {
			t.Fatalf("%p has ended, not %p", got, want)
		}
		if want != nil {
			await(t, "its end", want.Done())
		}
	}
	if n, _, dropped := g.store.Detached(); n != 1 || dropped != 0 || closed(servers[0].Done()) || closed(servers[3].Done()) {
		t.Errorf("%d are detached, %d dropped", n, dropped)
	}
}
