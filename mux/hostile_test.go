package mux

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"adit/mux/link"
	"adit/tunnel/ws"
)

// raw is a peer whose messages the test writes byte by byte.
type raw struct {
	t       testing.TB
	conn    *ws.Conn
	session chan *Session // the other end's, which is real
}

// newRawServer returns a server that has done its part of the handshake.
func newRawServer(t testing.TB) *raw {
	t.Helper()
	cc, sc := newConns(t)
	r := &raw{t, sc, make(chan *Session, 1)}
	go func() {
		s, err := Client(context.Background(), cc, nil)
		if err != nil {
			t.Error(err)
		}
		t.Cleanup(func() { s.Close() })
		r.session <- s
	}()
	r.readMessage()
	r.write(appendHello(nil, hello{version: Version, maxStreams: 100, credit: 64 << 10}))
	return r
}

// newRawServerStream returns a server such as newRawServer's, and the client's
// session, which has opened a stream to anywhere and written text. The stream is
// closed when the test ends.
func newRawServerStream(t testing.TB, text string) (*raw, *Session) {
	t.Helper()
	r := newRawServer(t)
	client := await(t, "session", r.session)
	st, err := client.Open(context.Background(), anywhere)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	if _, err := st.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return r, client
}

// newRawClient returns a client that has done its part of the handshake and
// opened the control stream. What the server writes is discarded.
func newRawClient(t testing.TB, cfg *Config) (*raw, *Session) {
	t.Helper()
	cc, sc := newConns(t)
	r := &raw{t, cc, make(chan *Session, 1)}
	go func() {
		s, err := Server(context.Background(), sc, cfg)
		if err != nil {
			t.Error(err)
		}
		r.session <- s
	}()
	r.write(appendHello(nil, hello{version: Version, maxStreams: 100, credit: 64 << 10}))
	r.data(yamuxFrame(yamuxWindowUpdate, yamuxSYN, controlStream, 0))
	s := await(t, "session", r.session)
	discarded := make(chan struct{})
	go func() {
		defer close(discarded)
		for {
			if _, err := cc.NextMessage(); err != nil {
				cc.CloseNow()
				return
			}
		}
	}()
	t.Cleanup(func() {
		s.Close()
		cc.CloseNow()
		<-discarded
	})
	return r, s
}

// newRawStream returns a client such as newRawClient's that has opened stream 3,
// and the stream, which is closed when the test ends.
func newRawStream(t testing.TB) (*raw, *Stream) {
	t.Helper()
	r, s := newRawClient(t, nil)
	r.data(open(3, appendOpen(nil, anywhere)))
	st, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return r, st
}

func (r *raw) readMessage() []byte {
	r.t.Helper()
	if _, err := r.conn.NextMessage(); err != nil {
		r.t.Fatal(err)
	}
	b, err := io.ReadAll(r.conn)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// readData returns the payload of the next data message.
func (r *raw) readData() []byte {
	r.t.Helper()
	for {
		if b := r.readMessage(); link.MessageType(b[0]) == link.MessageData {
			return b[1+link.AckSize:]
		}
	}
}

// write sends one message and ignores errors.
func (r *raw) write(b []byte) { r.conn.WriteMessage(ws.OpBinary, b) }

// data sends bytes of the link's stream.
func (r *raw) data(parts ...[]byte) {
	b := binary.BigEndian.AppendUint64([]byte{byte(link.MessageData)}, 0)
	r.write(append(b, bytes.Join(parts, nil)...))
}

// control sends control frames, in one frame of yamux.
func (r *raw) control(frames ...controlFrame) {
	var b []byte
	for _, f := range frames {
		b = appendControl(b, f)
	}
	r.data(dataFrame(controlStream, b))
}

// open returns the frames that open a stream and send body on it.
func open(id uint32, body []byte) []byte {
	return append(yamuxFrame(yamuxWindowUpdate, yamuxSYN, id, 0), dataFrame(id, body)...)
}

func dataFrame(id uint32, body []byte) []byte {
	return append(yamuxFrame(yamuxData, 0, id, uint32(len(body))), body...)
}

func yamuxFrame(typ byte, flags uint16, stream, length uint32) []byte {
	b := []byte{0, typ}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return binary.BigEndian.AppendUint32(b, length)
}

// heap is the memory in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A breach of the protocol ends the session, with a reason, and without a growth of
// memory.
func TestHostile(t *testing.T) {
	for name, attack := range map[string]func(*raw){
		"oversized first frame": func(r *raw) { r.data(yamuxFrame(yamuxData, yamuxSYN, 3, 0xffffffff)) },
		"oversized frame":       func(r *raw) { r.data(open(3, appendOpen(nil, anywhere)), yamuxFrame(yamuxData, 0, 3, 0xffffffff)) },
		"frame one byte too long": func(r *raw) {
			r.data(open(3, nil), yamuxFrame(yamuxData, 0, 3, frameHeader+MaxFrame+1))
		},
		"yamux ping flood": func(r *raw) {
			for range 100 {
				r.data(bytes.Repeat(yamuxFrame(2, yamuxSYN, 0, 1), 5000))
			}
		},
		"yamux version":             func(r *raw) { r.data([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}) },
		"yamux type":                func(r *raw) { r.data(yamuxFrame(9, 0, 0, 0)) },
		"duplicate stream":          func(r *raw) { r.data(open(3, nil), open(3, nil)) },
		"stream of ours":            func(r *raw) { r.data(open(4, nil)) },
		"stream 0":                  func(r *raw) { r.data(open(0, nil)) },
		"fault announced":           func(r *raw) { r.data(yamuxFrame(yamuxGoAway, 0, 0, 1)) },
		"unexpected FIN":            func(r *raw) { r.data(open(3, nil), bytes.Repeat(yamuxFrame(yamuxData, yamuxFIN, 3, 0), 2)) },
		"control stream FIN":        func(r *raw) { r.data(yamuxFrame(yamuxData, yamuxFIN, controlStream, 0)) },
		"control stream RST":        func(r *raw) { r.data(yamuxFrame(yamuxData, yamuxRST, controlStream, 0)) },
		"text message":              func(r *raw) { r.conn.WriteMessage(ws.OpText, []byte("hello")) },
		"empty message":             func(r *raw) { r.write(nil) },
		"data message without data": func(r *raw) { r.data() },
		"more data than a stream has credit for": func(r *raw) {
			r.data(open(3, appendOpen(nil, anywhere)))
			for range 10 {
				r.data(dataFrame(3, append([]byte{0, 0, 0x20, 0}, make([]byte, 8<<10)...)))
			}
		},
		"short data message": func(r *raw) { r.write([]byte{2, 0, 0}) },
		"short ack":          func(r *raw) { r.write([]byte{3, 0, 0, 0, 0, 0, 0, 0}) },
		"ack of unsent bytes": func(r *raw) {
			r.write(binary.BigEndian.AppendUint64([]byte{byte(link.MessageAck)}, 1<<40))
		},
		"ack of all bytes ever": func(r *raw) {
			r.write(bytes.Repeat([]byte{0xff}, 9))
			r.write(append([]byte{3}, bytes.Repeat([]byte{0xff}, 8)...))
		},
		"duplicate hello": func(r *raw) { r.write(appendHello(nil, hello{version: Version, maxStreams: 100, credit: 64 << 10})) },
		"long closed":     func(r *raw) { r.write(append([]byte{4, 0}, make([]byte, MaxReason+1)...)) },
		"short closed":    func(r *raw) { r.write([]byte{4}) },
		"too much unread": func(r *raw) {
			r.data(open(3, nil))
			for range 1000 {
				r.data(dataFrame(3, make([]byte, MaxFrame)))
			}
		},
		"too much for streams that do not exist": func(r *raw) {
			for range 1000 {
				r.data(dataFrame(999, make([]byte, MaxFrame)))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			// Small bounds, to be reached soon.
			r, s := newRawClient(t, &Config{MaxStreams: 4, WindowBudget: 1 << 20, MaxWindow: 4 << 20})
			goroutines, memory := runtime.NumGoroutine(), heap()
			attack(r)
			await(t, "end of the session", s.Done())
			if err := s.Err(); !errors.Is(err, ErrProtocol) {
				t.Fatalf("the session ended with %v", err)
			}
			if _, err := s.Accept(); err != nil {
				wantLost(t, "accept", err)
				if !errors.Is(err, ErrProtocol) {
					t.Fatal(err)
				}
			}
			if n := heap() - memory; n > 24<<20 {
				t.Errorf("it cost %d bytes", n)
			}
			if n := runtime.NumGoroutine() - goroutines; n > 20 {
				t.Errorf("it cost %d goroutines", n)
			}
		})
	}
}

// Data that follows a stream's end marker is a breach, whether it comes before the
// marker is read or after.
func TestDataAfterEnd(t *testing.T) {
	for name, late := range map[string]bool{"before the end is read": false, "after it": true} {
		t.Run(name, func(t *testing.T) {
			r, s := newRawClient(t, nil)
			r.data(open(3, appendOpen(nil, anywhere)), dataFrame(3, []byte{byte(frameEnd), 0, 0, 0}))
			more := dataFrame(3, []byte{byte(frameData), 0, 0, 1, 'x'})
			if !late {
				r.data(more)
			}
			st, err := s.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			if _, err := st.ReadTarget(); err != nil {
				t.Fatal(err)
			}
			if !late { // all of it has arrived when a later stream has
				r.data(open(5, nil))
				other, err := s.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer other.Close()
			}
			if _, err := st.Read(make([]byte, 1)); err != io.EOF {
				t.Fatal(err)
			}
			if late {
				r.data(more)
			}
			await(t, "end of the session", s.Done())
			if err := s.Err(); !errors.Is(err, ErrProtocol) {
				t.Errorf("the session ended with %v", err)
			}
		})
	}
}

// A Reset ends a Write that waits for a link without a connection, or for other bulk
// writers, and a stream can be opened, reset and closed there without waiting.
func TestResetWhileDetached(t *testing.T) {
	g := newGateway(t, nil)
	client, server := g.session(t, "/", nil)
	near, _ := openPair(t, client, server)
	other, _ := openPair(t, client, server)
	g.path.Cut()
	await(t, "loss", client.Down())
	before := runtime.NumGoroutine()
	var writers []<-chan error
	for _, st := range []*Stream{near, other} {
		writers = append(writers,
			async(func() error { _, err := st.Write(make([]byte, 1<<20)); return err }),
		)
	}
	eventually(t, "one has its turn, and waits", func() bool { return len(client.adapter.bulk) == 1 })
	for i, st := range []*Stream{near, other} {
		st.Reset(Cancelled)
		wantReset(t, "write", await(t, "end of the write", writers[i]), Cancelled, false)
		closed := async(func() error { return st.Close() })
		if err := await(t, "end of Close", closed); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	opened := async(func() error { _, err := client.Open(ctx, anywhere); return err })
	cancel()
	if err := await(t, "end of Open", opened); !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
	if _, err := client.Resume(t.Context(), g.mustDial(t, "/")); err != nil {
		t.Fatal(err)
	}
	near, far := openPair(t, client, server)
	pump(t, near, far, 1<<20)
}

// Streams whose small frames wait unread hold little more memory than what was sent.
func TestMemoryOfUnreadFrames(t *testing.T) {
	client, server := newPair(t, nil)
	const streams, size = 64, 4<<10 + 1
	for range streams {
		near, far := openPair(t, client, server)
		t.Cleanup(func() { near.Close(); far.Close() })
		if _, err := near.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all has arrived", func() bool { return server.adapter.unread.Load() >= streams*size })
	if n := server.adapter.memory.Load(); n > streams*(8<<10)+minPiece {
		t.Errorf("%d bytes of memory for %d bytes", n, streams*size)
	}
}

// Sessions that share a credit limit grant no more than it together, refuse streams
// for which nothing is left, and give back what they had.
func TestCreditLimit(t *testing.T) {
	process := NewCreditLimit(1<<20, nil)
	user := NewCreditLimit(4*(64<<10), process)
	var clients, servers []*Session
	for range 2 {
		cc, sc := newConns(t)
		client, server := newPairOn(t, cc, sc, nil, &Config{CreditLimit: user})
		clients, servers = append(clients, client), append(servers, server)
	}
	var streams []*Stream
	for i := range 4 {
		near, far := openPair(t, clients[i%2], servers[i%2])
		streams = append(streams, near, far)
	}
	if user.Used() != 4*(64<<10) || process.Used() != user.Used() {
		t.Fatalf("%d and %d bytes are granted", user.Used(), process.Used())
	}
	accepting := async(func() error { _, err := servers[0].Accept(); return err })
	over, err := clients[0].Open(t.Context(), anywhere)
	if err != nil {
		t.Fatal(err)
	}
	var refused *RefusedError
	if err := over.Result(); !errors.As(err, &refused) || refused.Code != Busy {
		t.Fatalf("a stream above the limit: %v", err)
	}
	over.Close()
	for _, st := range streams {
		st.Close()
	}
	eventually(t, "all is given back", func() bool { return user.Used() == 0 && process.Used() == 0 })
	clients[0].Close()
	<-accepting
}

// A peer is told of its breach, so that it does not take it for a lost connection.
func TestBreachIsTold(t *testing.T) {
	r := newRawServer(t)
	await(t, "session", r.session)
	r.data(yamuxFrame(9, 0, 0, 0))
	b := r.readMessage()
	for link.MessageType(b[0]) != link.MessageClose {
		b = r.readMessage()
	}
	if told, err := link.ParseClose(b); err != nil || told.Code != CloseProtocol || !strings.Contains(told.Reason, "type 9") {
		t.Fatalf("%v, %v", told, err)
	}
}

// Unusual but valid input, and input that a later version may send, ends nothing.
func TestOdd(t *testing.T) {
	for name, oddity := range map[string]func(*raw){
		"unknown message":       func(r *raw) { r.write(append([]byte{99}, make([]byte, 1<<20)...)) },
		"ack of nothing":        func(r *raw) { r.write(make([]byte, 9)[:9]); r.write(append([]byte{3}, make([]byte, 8)...)) },
		"longer ack":            func(r *raw) { r.write(append([]byte{3}, make([]byte, 80)...)) },
		"unknown control frame": func(r *raw) { r.control(controlFrame{200, 3, 4}) },
		"credit for no stream": func(r *raw) {
			r.control(controlFrame{controlCredit, 77, 1 << 31})
		},
		"revoke from no stream, and return": func(r *raw) {
			r.control(controlFrame{controlRevoke, 77, 1 << 31}, controlFrame{controlReturned, 77, 1 << 31})
		},
		"reset of no stream": func(r *raw) {
			r.control(controlFrame{controlReset, 77, 1 << 31})
		},
		"away twice": func(r *raw) {
			r.control(controlFrame{typ: controlGoingAway}, controlFrame{typ: controlGoingAway})
		},
		"frames byte by byte": func(r *raw) {
			for _, c := range dataFrame(controlStream, appendControl(nil, controlFrame{200, 3, 4})) {
				r.data([]byte{c})
			}
		},
		"pongs that were not asked for": func(r *raw) { r.conn.Ping([]byte("12345678")); r.conn.Ping(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			r, s := newRawClient(t, nil)
			oddity(r)
			r.data(open(3, appendOpen(nil, anywhere)))
			st, err := s.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			if got, err := st.ReadTarget(); err != nil || got != anywhere {
				t.Fatal(got, err)
			}
			if rtt := s.RTT(); rtt < 0 || rtt > time.Minute {
				t.Errorf("a round-trip time of %v", rtt)
			}
		})
	}
}

// A breach of the protocol within a stream ends only that stream.
func TestHostileStream(t *testing.T) {
	frame := func(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
	head := appendOpen(nil, anywhere)
	for name, c := range map[string]struct {
		body   []byte
		target bool // the target is fine
	}{
		"header with the longest length": {[]byte{1, 1, 0xff, 0xff, 'a'}, false},
		"header of another version":      {[]byte{9, 1, 0, 1, 'a'}, false},
		"frame of the longest length":    {append(head, frame(0x00ffffff)...), true},
		"frame too long":                 {append(head, frame(MaxFrame+1)...), true},
		"frame of no length":             {append(head, frame(0)...), true},
		"frame of another type":          {append(head, frame(0xffffffff)...), true},
		"end with a length":              {append(head, frame(1<<24|1)...), true},
	} {
		t.Run(name, func(t *testing.T) {
			r, s := newRawClient(t, nil)
			r.data(open(3, c.body))
			st, err := s.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_, err = st.ReadTarget()
			if c.target {
				if err != nil {
					t.Fatal(err)
				}
				_, err = st.Read(make([]byte, 100))
			}
			if !errors.Is(err, ErrProtocol) {
				t.Fatal(err)
			}
			st.Close()
			r.data(open(5, head))
			if st, err = s.Accept(); err != nil {
				t.Fatalf("the session did not survive: %v", err)
			}
			st.Close()
		})
	}
}

// The id of a stream that was reset and not closed here yet is not free: two streams
// would share one receive buffer.
func TestHostileReuse(t *testing.T) {
	r, st := newRawStream(t)
	if _, err := st.ReadTarget(); err != nil {
		t.Fatal(err)
	}
	r.data(dataFrame(3, append(binary.BigEndian.AppendUint32(nil, 5), "hello"...)))
	b, err := st.View()
	if err != nil {
		t.Fatal(err)
	}
	r.data(yamuxFrame(yamuxWindowUpdate, yamuxRST, 3, 0), open(3, appendOpen(nil, anywhere)))
	if _, err := st.owner.(*Session).Accept(); !errors.Is(err, ErrProtocol) {
		t.Fatal(err)
	}
	if string(b) != "hello" {
		t.Fatalf("what is being written has become %q", b)
	}
	st.Take(len(b))
}

// More credit than a window can hold is refused before it overflows.
func TestHostileCredit(t *testing.T) {
	r, st := newRawStream(t)
	for range 3 {
		r.control(controlFrame{controlCredit, 3, 1<<32 - 1})
	}
	await(t, "end of the stream", st.done)
	if _, err := st.Write([]byte("x")); !errors.Is(err, ErrProtocol) {
		t.Fatal(err)
	}
}

// Streams that a peer never closes on its side are bounded, and none of them is
// counted by the credit limit after the session.
func TestHostileHalfClosed(t *testing.T) {
	limit := NewCreditLimit(1<<30, nil)
	r, s := newRawClient(t, &Config{MaxStreams: 1, CreditLimit: limit})
	accepted := make(chan struct{}, 1<<16)
	go func() {
		for {
			st, err := s.Accept()
			if err != nil {
				return
			}
			st.Refuse(Refused, "")
			st.Close()
			accepted <- struct{}{}
		}
	}()
	var id uint32 = 3
	for ; !closed(s.Done()) && id < 100_000; id += 200 {
		var b []byte
		for i := range uint32(100) {
			b = append(b, open(id+2*i, appendOpen(nil, anywhere))...)
		}
		r.data(b)
		for n := 0; n < 100 && !closed(s.Done()); n++ {
			select {
			case <-accepted:
			case <-s.Done():
			}
		}
	}
	if err := s.Err(); !errors.Is(err, ErrProtocol) {
		t.Fatal(err)
	}
	eventually(t, "all credit is given back", func() bool { return limit.Used() == 0 })
}

func TestHandshake(t *testing.T) {
	text := func(c *ws.Conn) {
		c.WriteMessage(ws.OpText, appendHello(nil, hello{version: Version, maxStreams: 1, credit: 1}))
	}
	send := func(b []byte) func(*ws.Conn) {
		return func(c *ws.Conn) { c.WriteMessage(ws.OpBinary, b) }
	}
	good := appendHello(nil, hello{version: Version, maxStreams: 100, credit: 64 << 10})
	cfg := &Config{HandshakeTimeout: 100 * time.Millisecond}
	for name, c := range map[string]struct {
		peer     func(*ws.Conn)
		protocol bool
	}{
		"text":             {text, true},
		"data first":       {send(make([]byte, 100)), true},
		"empty":            {send(nil), true},
		"much too long":    {send(append(appendHello(nil, hello{version: Version, maxStreams: 1, credit: 1}), make([]byte, 1<<20)...)), true},
		"silence":          {func(*ws.Conn) {}, false},
		"hang-up":          {func(c *ws.Conn) { c.CloseNow() }, false},
		"close frame":      {func(c *ws.Conn) { c.Close(ws.StatusGoingAway, "") }, false},
		"silence after it": {send(good), false},
		"another stream first": {func(c *ws.Conn) {
			c.WriteMessage(ws.OpBinary, good)
			(&raw{conn: c}).data(open(3, appendOpen(nil, anywhere)))
		}, true},
	} {
		t.Run("server/"+name, func(t *testing.T) {
			cc, sc := newConns(t)
			c.peer(cc)
			s, err := Server(t.Context(), sc, cfg)
			if err == nil {
				s.Close()
				t.Fatal("a session came of it")
			}
			if errors.Is(err, ErrProtocol) != c.protocol {
				t.Fatal(err)
			}
		})
		t.Run("client/"+name, func(t *testing.T) {
			if strings.Contains(name, "stream") || strings.Contains(name, "after") {
				t.Skip("the client has no more to wait for")
			}
			cc, sc := newConns(t)
			c.peer(sc)
			s, err := Client(t.Context(), cc, cfg)
			if err == nil {
				s.Close()
				t.Fatal("a session came of it")
			}
			if errors.Is(err, ErrProtocol) != c.protocol {
				t.Fatal(err)
			}
		})
	}
}

// A client of another version gets an error that names both versions.
func TestHandshakeVersion(t *testing.T) {
	cc, sc := newConns(t)
	refused := async(func() error { _, err := Server(t.Context(), sc, nil); return err })
	r := &raw{t: t, conn: cc}
	r.write([]byte{byte(link.MessageHello), 9, 'w', 'h', 'a', 't'})
	closed, err := link.ParseClose(r.readMessage())
	if err != nil || closed.Code != CloseVersion {
		t.Fatal(closed, err)
	}
	for _, word := range []string{"server", "version 1", "version 9", "upgrade"} {
		if !strings.Contains(closed.Reason, word) {
			t.Errorf("%q does not say %q", closed.Reason, word)
		}
	}
	cc.CloseNow()
	if err := await(t, "refusal", refused); err == nil || !strings.Contains(err.Error(), closed.Reason) {
		t.Fatal(err)
	}

	// And what the client makes of such an answer.
	cc, sc = newConns(t)
	(&raw{t: t, conn: sc}).write(link.AppendClose(nil, CloseVersion, closed.Reason))
	_, err = Client(t.Context(), cc, nil)
	var told *ClosedError
	if !errors.As(err, &told) || told.Code != CloseVersion || !strings.Contains(err.Error(), closed.Reason) {
		t.Fatal(err)
	}
}
