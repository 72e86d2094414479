package mux

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"adit/mux/link"
	"adit/tunnel/ws"
)

// A session that is lost ends its streams, on both ends and never cleanly. What had
// arrived before can still be read.
func TestSessionLost(t *testing.T) {
	for _, c := range []struct {
		name string
		kill func(client, server *Session)
	}{
		{"client connection", func(client, _ *Session) { connOf(client).CloseNow() }},
		{"server connection", func(_, server *Session) { connOf(server).CloseNow() }},
		{"reset", func(client, _ *Session) {
			connOf(client).NetConn().(*net.TCPConn).SetLinger(0)
			connOf(client).CloseNow()
		}},
		{"close frame", func(client, _ *Session) { connOf(client).Close(ws.StatusGoingAway, "") }},
		{"Close", func(client, _ *Session) { client.Close() }},
		{"CloseReason", func(_, server *Session) { server.CloseReason(CloseAway, "maintenance") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, server := newPair(t, nil)
			near, far := openPair(t, client, server)
			idle, idleFar := openPair(t, client, server)
			ended, endedFar := openPair(t, client, server)
			far.Write([]byte("before"))
			ended.Write([]byte("whole"))
			ended.CloseWrite()
			if err := errors.Join(near.WaitReadable(), endedFar.WaitReadable()); err != nil {
				t.Fatal(err)
			}
			writer, _ := fill(t, near)
			eventually(t, "the end marker has arrived", func() bool { // behind the data, and that is all read by yamux
				return server.adapter.unread.Load() >= int64(frameHeader)
			})
			readers := map[string]<-chan error{}
			for name, st := range map[string]*Stream{"client": idle, "server": idleFar} {
				readers[name] = async(func() error { _, err := st.Read(make([]byte, 1)); return err })
			}
			gone := make(chan struct{})
			idle.Watch(func() { close(gone) }, nil)

			c.kill(client, server)
			await(t, "end of the client's session", client.Done())
			await(t, "end of the server's session", server.Done())
			for name, r := range readers {
				wantLost(t, "blocked read at the "+name, await(t, "end of a read", r))
			}
			wantLost(t, "blocked write", await(t, "end of the write", writer))
			await(t, "call of gone", gone)
			for _, st := range []*Stream{near, far, idle, idleFar} {
				if b, err := io.ReadAll(st); st == near && string(b) != "before" && c.name != "Close" && c.name != "client connection" {
					t.Errorf("%q, %v is left of what arrived before", b, err)
				} else {
					wantLost(t, "read", err)
				}
				_, err := st.Write([]byte("x"))
				wantLost(t, "write", err)
				wantLost(t, "end", st.CloseWrite())
				st.Close()
			}
			if b, err := io.ReadAll(endedFar); c.name == "client connection" && (string(b) != "whole" || err != nil) {
				t.Errorf("a direction that ended before: %q, %v", b, err)
			}
			for _, s := range []*Session{client, server} {
				if s.Err() == nil {
					t.Error("a session has ended for no reason")
				}
				_, err := s.Open(t.Context(), anywhere)
				wantLost(t, "open", err)
				for err = nil; err == nil; {
					_, err = s.Accept()
				}
				wantLost(t, "accept", err)
			}
			ended.Close()
			endedFar.Close()
		})
	}
}

// The reason for a close reaches the other side, also beside streams that never stop
// writing.
func TestCloseReasonWhileBusy(t *testing.T) {
	client, server := newPair(t, nil)
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	go io.Copy(io.Discard, near)
	started := make(chan struct{})
	writer := async(func() error {
		p := make([]byte, 64<<10)
		for n := 0; ; n++ {
			if n == 10 {
				close(started)
			}
			if _, err := far.Write(p); err != nil {
				return err
			}
		}
	})
	await(t, "traffic", started)
	start := time.Now()
	server.CloseReason(CloseRevoked, "not any more")
	if d := time.Since(start); d > link.DrainTimeout {
		t.Errorf("it took %v, as if the stream had been waited for", d)
	}
	wantLost(t, "write", await(t, "end of the writer", writer))
	await(t, "end of the client's session", client.Done())
	var told *ClosedError
	if err := client.Err(); !errors.As(err, &told) || told.Code != CloseRevoked || told.Reason != "not any more" {
		t.Fatal(err)
	}
}

// Without resumption, too, a close message waits until everything written before it
// has arrived: it could not be sent again.
func TestCloseReasonWaits(t *testing.T) {
	r, client := newRawServerStream(t, "the last data")
	ended := async(func() error { client.CloseReason(CloseDone, ""); return nil })
	var received []byte
	for !bytes.HasSuffix(received, []byte("the last data")) {
		received = append(received, r.readData()...)
	}
	next := make(chan []byte, 1)
	go func() { next <- r.readMessage() }()
	select {
	case b := <-next:
		t.Fatalf("%x came before it was acknowledged", b)
	case <-time.After(link.CloseTimeout / 4):
	}
	r.write(binary.BigEndian.AppendUint64([]byte{byte(link.MessageAck)}, uint64(len(received))))
	if b := await(t, "close message", next); link.MessageType(b[0]) != link.MessageClose {
		t.Fatalf("instead of a close message came %x", b)
	}
	await(t, "end", ended)
}

// A close message does not wait indefinitely for a peer that reads nothing.
func TestCloseReasonStalled(t *testing.T) {
	t.Parallel()
	client, server, path := newPairVia(t, nil)
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	path.Stall(true)
	far.Write(make([]byte, 1<<10))
	start := time.Now()
	server.CloseReason(CloseDone, "")
	if d := time.Since(start); d > watchdog {
		t.Errorf("it took %v", d)
	}
	path.Stall(false)
}

// Thousands of streams end with their session at once; readers that spin inside yamux
// would take minutes.
func TestSessionLostWithManyStreams(t *testing.T) {
	client, server := newPair(t, nil)
	const count = 2000
	ends := make(chan error, 2*count)
	var streams []*Stream
	for range count {
		near, far := openPair(t, client, server)
		streams = append(streams, near, far)
		for _, st := range []*Stream{near, far} {
			go func() {
				_, err := st.Read(make([]byte, 1))
				ends <- err
			}()
		}
	}
	connOf(client).CloseNow()
	for range 2 * count {
		wantLost(t, "read", await(t, "end of a read", ends))
	}
	for _, st := range streams {
		st.Close()
	}
}

// A stream without a reader delays neither other streams nor pings.
func TestSlowReader(t *testing.T) {
	client, server := newPair(t, &Config{PingInterval: 20 * time.Millisecond})
	slow, slowFar := openPair(t, client, server)
	slowWriter, written := fill(t, slow)
	slowBack, _ := fill(t, slowFar)
	if n := written(); n > 64<<10 {
		t.Errorf("%d bytes went out to a reader that takes none", n)
	}
	for range 5 {
		near, far := openPair(t, client, server)
		want := randomBytes(3, 4<<20)
		go func() {
			far.Write(want)
			far.CloseWrite()
		}()
		if got, err := io.ReadAll(near); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes beside a slow stream, %v", len(got), err)
		}
		near.CloseWrite()
		io.ReadAll(far)
		near.Close()
		far.Close()
	}
	for _, s := range []*Session{client, server} { // pings are answered beside it
		before := connOf(s).LastRead()
		s.Probe()
		eventually(t, "an answer to a ping", func() bool { return s.RTT() > 0 && connOf(s).LastRead().After(before) })
	}
	slow.Reset(Reset)
	wantReset(t, "slow writer", await(t, "end of the slow writer", slowWriter), Reset, false)
	wantReset(t, "slow writer back", await(t, "end of the other slow writer", slowBack), Reset, true)
	slow.Close()
	slowFar.Close()
}

func TestMaxStreams(t *testing.T) {
	cc, sc := newConns(t)
	client, server := newPairOn(t, cc, sc, nil, &Config{MaxStreams: 3})
	var streams []*Stream
	for range 3 {
		near, far := openPair(t, client, server)
		streams = append(streams, near, far)
	}
	_, err := client.Open(t.Context(), anywhere)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Code != Busy {
		t.Fatalf("a stream too many: %v", err)
	}
	// A client that does not keep to the limit is refused by the server.
	client.peer.maxStreams = 100
	accepted := async(func() *Stream { st, _ := server.Accept(); return st })
	for range 10 {
		near, err := client.Open(t.Context(), anywhere)
		if err != nil {
			t.Fatal(err)
		}
		near.Write(make([]byte, 60<<10))
		if err := near.Result(); !errors.As(err, &refused) || refused.Code != Busy {
			t.Fatalf("a stream too many: %v", err)
		}
		near.Close()
	}
	for _, st := range streams[:2] {
		st.Close()
	}
	near, err := client.Open(t.Context(), anywhere)
	if err != nil {
		t.Fatal(err)
	}
	far := await(t, "stream in the place of one that ended", accepted)
	for _, st := range append(streams[2:], near, far) {
		st.Close()
	}
	eventually(t, "no stream is left", func() bool {
		return client.yamux.NumStreams() == 1 && server.yamux.NumStreams() == 1 && server.adapter.unread.Load() == 0
	})
}

// forgetGoingAway makes a session open streams although its peer takes none.
func forgetGoingAway(s *Session) {
	s.mu.Lock()
	s.peerAway = false
	s.mu.Unlock()
}

// A peer that was sent going-away opens no streams, and those that it opened before it
// knew are accepted.
func TestSendGoingAway(t *testing.T) {
	client, server := newPair(t, nil)
	server.SendGoingAway()
	await(t, "the request", client.GoingAway())
	var refused *RefusedError
	if _, err := client.Open(t.Context(), anywhere); !errors.As(err, &refused) || refused.Code != GoingAway {
		t.Fatalf("a new stream: %v", err)
	}
	forgetGoingAway(client) // as before it came
	openPair(t, client, server)
}

// Shutdown refuses new streams, lets the present ones end, and sends a close message.
func TestShutdown(t *testing.T) {
	client, server := newPair(t, nil)
	near, far := openPair(t, client, server)
	down := async(func() error { return server.Shutdown(context.Background(), CloseAway, "stopping") })
	await(t, "the request", client.GoingAway())
	for _, s := range []*Session{client, server} {
		var refused *RefusedError
		if _, err := s.Open(t.Context(), anywhere); !errors.As(err, &refused) || refused.Code != GoingAway {
			t.Fatalf("a new stream: %v", err)
		}
	}
	// A stream that was opened before the request arrived.
	forgetGoingAway(client)
	go server.Accept()
	st, err := client.Open(t.Context(), anywhere)
	if err != nil {
		t.Fatal(err)
	}
	var refused *RefusedError
	if err := st.Result(); !errors.As(err, &refused) || refused.Code != GoingAway {
		t.Fatalf("a new stream: %v", err)
	}
	st.Close()

	near.Write([]byte("still here"))
	near.CloseWrite()
	if b, err := io.ReadAll(far); string(b) != "still here" || err != nil {
		t.Fatal(string(b), err)
	}
	select {
	case err := <-down:
		t.Fatalf("Shutdown did not wait for a stream: %v", err)
	default:
	}
	late := randomBytes(4, 1<<20)
	go func() {
		far.Write(late)
		far.CloseWrite()
		far.Close()
	}()
	if b, err := io.ReadAll(near); !bytes.Equal(b, late) || err != nil {
		t.Fatal(len(b), err)
	}
	near.Close()
	if err := await(t, "end of Shutdown", down); err != nil {
		t.Fatal(err)
	}
	await(t, "end of the client's session", client.Done())
	var told *ClosedError
	if err := client.Err(); !errors.As(err, &told) || told.Code != CloseAway || told.Reason != "stopping" {
		t.Fatal(err)
	}
}

func TestShutdownCutShort(t *testing.T) {
	client, server := newPair(t, nil)
	near, far := openPair(t, client, server)
	ctx, cancel := context.WithCancel(context.Background())
	down := async(func() error { return server.Shutdown(ctx, CloseAway, "stopping") })
	await(t, "the request", client.GoingAway())
	cancel()
	if err := await(t, "end of Shutdown", down); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for _, st := range []*Stream{near, far} {
		_, err := st.Read(make([]byte, 1))
		wantLost(t, "read", err)
		st.Close()
	}
}

// Everything written before an orderly end arrives.
func TestLosslessEnd(t *testing.T) {
	want := randomBytes(5, 300<<10)
	for n := range 200 {
		client, server := newPair(t, nil)
		near, far := openPair(t, client, server)
		ended := async(func() error {
			_, err := near.Write(want)
			err = errors.Join(err, near.CloseWrite())
			if _, readErr := near.Read(make([]byte, 1)); readErr != io.EOF {
				err = errors.Join(err, readErr)
			}
			near.Close()
			if n%2 == 0 {
				return errors.Join(err, client.Shutdown(context.Background(), CloseDone, ""))
			}
			client.CloseReason(CloseDone, "")
			return err
		})
		far.CloseWrite()
		got, err := io.ReadAll(far)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("round %d: %d bytes of %d: %v", n, len(got), len(want), err)
		}
		far.Close()
		if err := await(t, "end", ended); err != nil {
			t.Fatal(err)
		}
		server.Close()
	}
}

// Thousands of streams, ended in every way, leave nothing behind.
func TestCycles(t *testing.T) {
	client, server := newPair(t, nil)
	rounds := 10_000
	if testing.Short() {
		rounds = 1000
	}
	var serving sync.WaitGroup
	serve := func() {
		defer serving.Done()
		for {
			far, err := server.Accept()
			if err != nil {
				return
			}
			serving.Add(1)
			go func() {
				defer serving.Done()
				defer far.Close()
				target, err := far.ReadTarget()
				if err != nil {
					return
				}
				if target.Address == "refused:1" {
					far.Refuse(Refused, "no")
					return
				}
				far.Connected()
				tunnelCopy(far, far)
			}()
		}
	}
	serving.Add(1)
	go serve()
	cycle := func(n int) {
		target := anywhere
		if n%5 == 1 {
			target.Address = "refused:1"
		}
		near, err := client.Open(context.Background(), target)
		if err != nil {
			t.Error(err)
			return
		}
		defer near.Close()
		near.Write([]byte("hello"))
		switch n % 5 {
		case 0: // a clean end
			near.CloseWrite()
			if b, err := io.ReadAll(near); string(b) != "hello" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		case 1:
			if err := near.Result(); err == nil {
				t.Error("not refused")
			}
		case 2: // at once
		case 3:
			near.Read(make([]byte, 3))
			near.Reset(Reset)
		case 4:
			near.Read(make([]byte, 5))
			near.CloseWrite()
		}
	}
	settled := func() bool {
		return client.yamux.NumStreams() == 1 && server.yamux.NumStreams() == 1 &&
			client.NumStreams() == 0 && server.NumStreams() == 0
	}
	run := func(from, to int) {
		var all sync.WaitGroup
		for worker := range 8 {
			all.Go(func() {
				for n := from + worker; n < to; n += 8 {
					cycle(n)
				}
			})
		}
		all.Wait()
		eventually(t, "no stream is left", settled)
	}
	run(0, 400)
	running, memory := runtime.NumGoroutine(), heap()
	run(0, rounds)
	eventually(t, "the goroutines have ended", func() bool { return runtime.NumGoroutine() <= running+2 })
	if n := heap() - memory; n > 2<<20 {
		t.Errorf("%d streams have left %d bytes", rounds, n)
	}
	for name, s := range map[string]*Session{"client": client, "server": server} {
		s.mu.Lock()
		if len(s.adapter.buffers) != 1 || s.opened != 0 || growth(s) != 0 || s.adapter.unread.Load() != 0 {
			t.Errorf("%s: %d buffers, %d opened, growth %d, %d unread", name, len(s.adapter.buffers), s.opened, growth(s), s.adapter.unread.Load())
		}
		s.mu.Unlock()
		if n := s.Stats().Unacknowledged; n > 64<<10 {
			t.Errorf("%s: %d bytes are not acknowledged", name, n)
		}
	}
	client.Close()
	server.Close()
	serving.Wait()
}

// tunnelCopy echoes until the end and passes the end on.
func tunnelCopy(dst, src *Stream) {
	if _, err := io.Copy(dst, src); err == nil {
		dst.CloseWrite()
	}
}

// Close may be called by several goroutines at once, and while streams open and close.
func TestCloseUnderLoad(t *testing.T) {
	for range 20 {
		client, server := newPair(t, nil)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for {
					st, err := client.Open(context.Background(), anywhere)
					if err != nil {
						wantLost(t, "open", err)
						return
					}
					st.Write([]byte("x"))
					st.Close()
				}
			})
			all.Go(func() {
				for {
					st, err := server.Accept()
					if err != nil {
						wantLost(t, "accept", err)
						return
					}
					st.ReadTarget()
					st.Refuse(Refused, "")
					st.Close()
				}
			})
		}
		eventually(t, "traffic", func() bool { return client.link.Received() > 10_000 })
		for _, s := range []*Session{client, server, client, server} {
			all.Go(func() { s.Close() })
		}
		await(t, "end of it all", async(func() bool { all.Wait(); return true }))
	}
}

// Configured values are corrected to their bounds.
func TestConfigBounds(t *testing.T) {
	for _, c := range []*Config{nil, {}, {MaxStreams: -1, InitialCredit: -1, MaxWindow: -1, WindowBudget: -1, SendBuffer: -1, PingInterval: -1, Silence: -1, HandshakeTimeout: -1, OpenTimeout: -1}, {MaxWindow: math.MaxInt, InitialCredit: math.MaxInt / 2}} {
		d := c.withDefaults()
		if d.MaxStreams <= 0 || d.InitialCredit < 8<<10 || d.MaxWindow < d.InitialCredit || d.MaxWindow > 1<<30 ||
			d.WindowBudget <= 0 || d.SendBuffer < 512<<10 || min(d.PingInterval, d.Silence, d.HandshakeTimeout, d.OpenTimeout) <= 0 || d.Logger == nil {
			t.Errorf("%+v", d)
		}
	}
	client, server := newPair(t, &Config{MaxWindow: math.MaxInt, InitialCredit: math.MaxInt / 2})
	near, far := openPair(t, client, server)
	defer far.Close()
	defer near.Close()
	want := randomBytes(6, 8<<20)
	go func() {
		near.Write(want)
		near.CloseWrite()
	}()
	if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, want) {
		t.Fatal(len(got), err)
	}
}

// A stream of a kind that the acceptor does not know is refused with a code of its
// own, and ends nothing else; this side does not open kinds that the peer's hello does
// not list.
func TestUnknownStreamKind(t *testing.T) {
	r, s := newRawClient(t, nil)
	r.data(open(3, []byte{openVersion, 77, 0, 1, 'x'}))
	st, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.ReadTarget(); !errors.Is(err, errUnknownKind) {
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Code != Unsupported {
			t.Fatal(err)
		}
	}
	st.Close()
	r.data(open(5, appendOpen(nil, anywhere)))
	other, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.ReadTarget(); err != nil {
		t.Fatal(err)
	}

	client, _ := newPair(t, nil)
	client.peer.kinds = []Kind{TCP}
	var refused *RefusedError
	if _, err := client.Open(t.Context(), Target{Unix, "/run/x.sock"}); !errors.As(err, &refused) || refused.Code != Unsupported {
		t.Errorf("a kind that the peer does not know: %v", err)
	}
}

// Long before the stream ids of a session run out, both ends ask for another session,
// and streams can be opened until it is there.
func TestRecycleBeforeStreamIDsRunOut(t *testing.T) {
	for name, who := range map[string][2]*Config{
		"opener":   {{RecycleAfter: 4}, nil},
		"acceptor": {nil, {RecycleAfter: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			cc, sc := newConns(t)
			client, server := newPairOn(t, cc, sc, who[0], who[1])
			for i := range 4 {
				if closed(client.GoingAway()) && i < 3 {
					t.Fatalf("going away after %d streams", i)
				}
				near, far := openPair(t, client, server)
				defer near.Close()
				defer far.Close()
			}
			await(t, "request for another session", client.GoingAway())
			near, err := client.Open(t.Context(), anywhere)
			if name == "opener" {
				if err != nil {
					t.Fatalf("a stream before the next session is there: %v", err)
				}
				near.Close()
			}
			client.mu.Lock()
			client.lastID = lastStreamID
			client.mu.Unlock()
			var refused *RefusedError
			if _, err := client.Open(t.Context(), anywhere); !errors.As(err, &refused) || refused.Code != GoingAway {
				t.Errorf("after the last id: %v", err)
			}
		})
	}
}

// A burst of openings is no sign of a peer that acknowledges none.
func TestOpenManyAtOnce(t *testing.T) {
	client, server := newPair(t, nil)
	const streams = 2000
	go func() {
		for {
			st, err := server.Accept()
			if err != nil {
				return
			}
			defer st.Close()
		}
	}()
	start := make(chan struct{})
	var opening sync.WaitGroup
	for range streams {
		opening.Go(func() {
			<-start
			st, err := client.Open(t.Context(), anywhere)
			if err != nil {
				t.Error(err)
				return
			}
			st.Close()
		})
	}
	close(start)
	opening.Wait()
	client.Close()
	server.Close()
}
