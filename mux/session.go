package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"adit/tunnel"
)

// Config has the limits and times of a session. The zero value is useful, as
// is nil; what is negative counts as zero.
type Config struct {
	// MaxStreams is how many streams the peer may have open here at once.
	// Further ones are refused as Busy. Default 4096.
	MaxStreams int
	// InitialCredit is how many bytes a new stream may send before the reader
	// takes any. Default 64 KiB, at least 8 KiB.
	InitialCredit int
	// MaxWindow is how far that grows for a stream whose reader keeps up.
	// Default 16 MiB, at most 1 GiB.
	MaxWindow int
	// Budget bounds the growth of all streams of a session together. So the
	// unread bytes of a session never exceed MaxStreams × InitialCredit +
	// Budget (and some headers). Default 64 MiB.
	Budget int
	// Ring is how many sent bytes are kept for the peer to acknowledge.
	// Default 16 MiB, at least 512 KiB.
	Ring int
	// PingInterval is the time between pings, jittered by a quarter.
	// Default 20 s.
	PingInterval time.Duration
	// Silence is how long a connection may bring nothing at all before it is
	// given up as dead. Default 45 s.
	Silence time.Duration
	// HandshakeTimeout bounds the exchange of hello messages. Default 10 s.
	HandshakeTimeout time.Duration
	// OpenTimeout is how long an accepted stream may take to say its target.
	// Default 10 s.
	OpenTimeout time.Duration
	// Logger gets what goes on inside, at level debug. Default: discarded.
	Logger *slog.Logger
}

func (c *Config) withDefaults() Config {
	var d Config
	if c != nil {
		d = *c
	}
	orDefault(&d.MaxStreams, 4096)
	orDefault(&d.InitialCredit, 64<<10)
	orDefault(&d.MaxWindow, 16<<20)
	orDefault(&d.Budget, 64<<20)
	orDefault(&d.Ring, 16<<20)
	orDefault(&d.PingInterval, 20*time.Second)
	orDefault(&d.Silence, 45*time.Second)
	orDefault(&d.HandshakeTimeout, 10*time.Second)
	orDefault(&d.OpenTimeout, 10*time.Second)
	d.InitialCredit = max(d.InitialCredit, 8<<10)
	d.InitialCredit = min(d.InitialCredit, maxWindow)
	d.MaxWindow = min(max(d.MaxWindow, d.InitialCredit), maxWindow)
	d.Ring = max(d.Ring, 2*sendQueue)
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	return d
}

func orDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// sendQueue is how many bytes wait for the connection at most: enough to
// gather the next message while one is being written, and no more, because a
// keystroke waits behind them.
const sendQueue = 256 << 10

// maxWindow is the bound of Config.MaxWindow: yamux's own windows, which are
// more than twice as large, fit 32 bits.
const maxWindow = 1 << 30

// streamBacklog is how many streams that were opened wait to be accepted, or
// for the peer to accept them.
const streamBacklog = 4096

// streamSlack is what a stream may send beyond its credit: its header, its
// result, its end, and the control frames about it.
const streamSlack = 2 << 10

// Session is a set of streams over one connection. Its methods are safe for
// concurrent use. It owns the connection.
type Session struct {
	cfg     Config
	peer    hello
	link    *link
	conn    *yamuxConn
	yamux   *yamux.Session
	control *control

	mu        sync.Mutex
	streams   map[uint32]*Stream
	opened    int                  // of these, opened here
	draining  map[*Stream]struct{} // closed here, and the peer may still send
	early     [64]earlyReset       // the last resets of unknown streams
	nextEarly int
	growth    int           // bytes of the budget that streams' windows use
	closing   bool          // the link is over, and the streams are being told
	idle      chan struct{} // closed when no stream is left, once Shutdown waits for it

	ending sync.Once
	away   chan struct{} // closed when the peer takes no new streams

	done chan struct{}
	wg   sync.WaitGroup
}

// Client starts a session on a connection that this side has dialled, and
// takes the connection over, also when it fails. It returns when the server's
// hello has arrived.
func Client(ctx context.Context, conn *tunnel.Conn, cfg *Config) (*Session, error) {
	return start(ctx, conn, cfg, true)
}

// Server is Client for the side that accepted the connection.
func Server(ctx context.Context, conn *tunnel.Conn, cfg *Config) (*Session, error) {
	return start(ctx, conn, cfg, false)
}

func start(ctx context.Context, conn *tunnel.Conn, config *Config, client bool) (*Session, error) {
	cfg := config.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, cfg.HandshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.CloseNow() })
	defer stop()

	s := &Session{
		cfg: cfg, streams: make(map[uint32]*Stream), draining: make(map[*Stream]struct{}),
		away: make(chan struct{}), done: make(chan struct{}),
	}
	var err error
	if s.peer, err = exchangeHello(conn, cfg, client); err == nil {
		err = s.begin(conn, client)
	}
	if err != nil {
		conn.CloseNow()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return nil, fmt.Errorf("session handshake: %w", err)
	}
	return s, nil
}

// exchangeHello sends this side's hello and reads the peer's. The server
// answers, so that it can refuse in words.
func exchangeHello(conn *tunnel.Conn, cfg Config, client bool) (hello, error) {
	own := appendHello(nil, hello{version: Version, maxStreams: uint32(cfg.MaxStreams), credit: uint32(cfg.InitialCredit)})
	if client {
		if err := conn.WriteMessage(tunnel.OpBinary, own); err != nil {
			return hello{}, err
		}
	}
	peer, err := readHello(conn)
	if err != nil {
		return hello{}, err
	}
	if peer.version != Version {
		reason := fmt.Sprintf("this %s speaks version %d of the link protocol, the %s version %d: upgrade the older one",
			role(client), Version, role(!client), peer.version)
		conn.WriteMessage(tunnel.OpBinary, appendClose(nil, CloseVersion, reason))
		conn.Close(tunnel.StatusPolicy, "")
		return hello{}, errors.New(reason)
	}
	if !client {
		return peer, conn.WriteMessage(tunnel.OpBinary, own)
	}
	return peer, nil
}

func role(client bool) string {
	if client {
		return "client"
	}
	return "server"
}

func readHello(conn *tunnel.Conn) (hello, error) {
	op, err := conn.NextMessage()
	if err != nil {
		return hello{}, err
	}
	if op != tunnel.OpBinary {
		return hello{}, protocolError("a text message instead of a hello")
	}
	b, err := io.ReadAll(io.LimitReader(conn, maxHello+1))
	if err != nil {
		return hello{}, err
	}
	if len(b) > maxHello {
		return hello{}, protocolError("hello of more than %d bytes", maxHello)
	}
	if len(b) > 0 && messageType(b[0]) == messageClose {
		closed, err := parseClose(b)
		if err != nil {
			return hello{}, err
		}
		return hello{}, closed
	}
	return parseHello(b)
}

// begin builds the layers above the connection. The first yamux stream is the
// control stream.
func (s *Session) begin(conn *tunnel.Conn, client bool) error {
	cfg := s.cfg
	s.link = newLink(conn, linkConfig{ring: cfg.Ring, queue: sendQueue, pingInterval: cfg.PingInterval, silence: cfg.Silence})
	s.conn = &yamuxConn{link: s.link, ended: s.endStreams, limit: int64(cfg.MaxStreams)*int64(cfg.InitialCredit+streamSlack) + int64(cfg.Budget) + 1<<20}
	yc := &yamux.Config{
		AcceptBacklog:     streamBacklog,
		KeepAliveInterval: time.Hour, // unused, but must be set
		// Stalls are the link's business: it notices silence. A yamux timeout
		// would lose frames of a healthy, slow link.
		ConnectionWriteTimeout: 24 * time.Hour,
		// Never in the way of our own credit, which yamux's updates lag behind
		// by up to half a window.
		MaxStreamWindowSize: 2*uint32(cfg.MaxWindow) + 1<<20,
		// No StreamCloseTimeout: it would reset a stream that has ended well
		// here under a peer that still reads what it was sent, for hours
		// maybe. Accept bounds what a peer may leave half closed.
		Logger: yamuxLogger{cfg.Logger},
	}
	start, first := yamux.Server, (*yamux.Session).AcceptStream
	if client {
		start, first = yamux.Client, (*yamux.Session).OpenStream
	}
	var err error
	if s.yamux, err = start(s.conn, yc); err != nil {
		s.link.Close()
		s.link.wait()
		return err
	}
	ys, err := first(s.yamux)
	if err == nil && ys.StreamID() != controlStream {
		err = protocolError("the first stream is number %d", ys.StreamID())
	}
	if err == nil && client {
		// The opening of a yamux stream travels with its first data.
		_, err = ys.Write(appendControl(nil, controlFrame{}))
	}
	if err != nil {
		cause := s.link.cause()
		s.link.fail(err)
		s.yamux.Close()
		s.link.wait()
		return errors.Join(err, cause)
	}
	s.control = newControl(s, ys)
	s.wg.Go(s.control.write)
	s.wg.Go(s.control.read)
	s.wg.Go(s.ended)
	return nil
}

// ended waits for the end of the session and tells its streams.
func (s *Session) ended() {
	<-s.yamux.CloseChan()
	s.yamux.Close() // waits for yamux's goroutines
	s.control.stop()
	close(s.done)
}

// endStreams ends the streams of a session whose link is over. That comes
// before the end of yamux: from the moment that yamux closes until it has come
// to a stream in turn, a Read that is blocked there turns in a circle, and
// thousands of them hold each other up for minutes. What has arrived before is
// in the streams' buffers and can still be read.
func (s *Session) endStreams() { s.ending.Do(s.endStreamsOnce) }

func (s *Session) endStreamsOnce() {
	s.mu.Lock()
	s.closing = true
	streams := slices.Collect(maps.Values(s.streams))
	for st := range s.draining {
		st.yamux.SetReadDeadline(longAgo)
	}
	s.mu.Unlock()
	for _, st := range streams {
		st.end(s.cause(nil), endLost)
	}
}

// spawn runs f in a goroutine that Close waits for, unless the session is
// over.
func (s *Session) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.wg.Go(f)
	}
	return !s.closing
}

// Open starts a stream to a target on the peer's side and returns without
// waiting for the result: data may be written at once, and the first Read, or
// Result, says how it went. The caller owns the stream and must Close it.
func (s *Session) Open(ctx context.Context, t Target) (*Stream, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	away, full := s.idle != nil, int64(s.opened) >= int64(s.peer.maxStreams)
	s.mu.Unlock()
	if away || closed(s.away) {
		return nil, &RefusedError{GoingAway, "the session takes no new streams"}
	}
	if full {
		return nil, &RefusedError{Busy, fmt.Sprintf("the other end takes %d streams at once", s.peer.maxStreams)}
	}
	// yamux blocks without end when the link stalls, and knows no context.
	type result struct {
		st  *Stream
		err error
	}
	opened := make(chan result)
	if !s.spawn(func() {
		st, err := s.open(t)
		select {
		case opened <- result{st, err}:
		case <-ctx.Done():
			if err == nil {
				st.Close()
			}
		}
	}) {
		return nil, s.cause(nil)
	}
	select {
	case r := <-opened:
		return r.st, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (s *Session) open(t Target) (*Stream, error) {
	ys, err := s.yamux.OpenStream()
	if err != nil {
		return nil, s.cause(err)
	}
	st := s.newStream(ys, true)
	st.target = t
	if _, err := ys.Write(appendOpen(nil, t)); err != nil {
		st.Close()
		return nil, s.cause(err)
	}
	return st, nil
}

// Accept returns the next stream that the peer opens. The caller owns it, must
// read its target with ReadTarget, and must Close it. Streams over MaxStreams,
// and any after Shutdown has begun, are refused here.
func (s *Session) Accept() (*Stream, error) {
	for {
		ys, err := s.yamux.AcceptStream()
		if err != nil {
			return nil, s.cause(err)
		}
		st := s.newStream(ys, false)
		s.mu.Lock()
		away, count := s.idle != nil, len(s.streams)-s.opened
		s.mu.Unlock()
		switch {
		case s.yamux.NumStreams() > s.maxHalfClosed():
			s.link.fail(protocolError("too many streams are left half closed"))
		case away:
			s.refuse(st, GoingAway, "the server is stopping")
		case count > s.cfg.MaxStreams:
			s.refuse(st, Busy, fmt.Sprintf("this session has %d streams already", s.cfg.MaxStreams))
		default:
			return st, nil
		}
	}
}

// maxHalfClosed bounds the streams that yamux knows, which includes those that
// are closed here and not by the peer. A peer that keeps within MaxStreams and
// closes what has ended stays well below it.
func (s *Session) maxHalfClosed() int { return 4*s.cfg.MaxStreams + 2*streamBacklog }

func (s *Session) refuse(st *Stream, code Code, reason string) {
	refuse := func() {
		st.Refuse(code, reason)
		st.Close()
	}
	if !s.spawn(refuse) {
		st.Close()
	}
}

func (s *Session) newStream(ys *yamux.Stream, opener bool) *Stream {
	st := &Stream{
		session: s, yamux: ys, opener: opener,
		done: make(chan struct{}), credited: make(chan struct{}, 1),
		window: window{size: s.cfg.InitialCredit, since: time.Now()},
	}
	st.credit.Store(int64(s.peer.credit))
	s.mu.Lock()
	lost := s.closing
	var early *ResetError
	for _, r := range s.early {
		if r.stream == ys.StreamID() {
			early = &ResetError{Code: r.code, Remote: true}
		}
	}
	s.streams[ys.StreamID()] = st
	if opener {
		s.opened++
	}
	s.mu.Unlock()
	switch {
	case lost:
		st.end(s.cause(nil), endLost)
	case early != nil:
		st.end(early, endRemote)
	}
	return st
}

// earlyReset is a reset of a stream that is not known here: either no more, or
// not yet, because its opening waits to be accepted while the control stream
// overtakes it.
type earlyReset struct {
	stream uint32
	code   Code
}

// resetBy ends a stream that the peer has reset.
func (s *Session) resetBy(stream uint32, code Code) {
	s.mu.Lock()
	st := s.streams[stream]
	if st == nil {
		s.early[s.nextEarly] = earlyReset{stream, code}
		s.nextEarly = (s.nextEarly + 1) % len(s.early)
	}
	s.mu.Unlock()
	if st != nil {
		st.end(&ResetError{Code: code, Remote: true}, endRemote)
	}
}

// forget is called once for each stream, when it is closed. If the peer may
// still send on it, what it sends is discarded until its end.
func (s *Session) forget(st *Stream, drain bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st.yamux.StreamID())
	if st.opener {
		s.opened--
	}
	if len(s.streams) == 0 && s.idle != nil && !closed(s.idle) {
		close(s.idle)
	}
	growth := st.window.size - s.cfg.InitialCredit
	if !drain || s.closing {
		s.growth -= growth
		return
	}
	s.draining[st] = struct{}{}
	s.wg.Go(func() {
		st.reading.Lock() // a Read that is still under way has a deadline
		defer st.reading.Unlock()
		s.mu.Lock()
		if !s.closing {
			st.yamux.SetReadDeadline(time.Time{})
		}
		s.mu.Unlock()
		io.Copy(io.Discard, readerFunc(st.readRawLocked))
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.draining, st)
		s.growth -= growth
	})
}

func (s *Session) stream(id uint32) *Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[id]
}

// NumStreams is the number of streams that are not closed.
func (s *Session) NumStreams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// RTT is the smoothed round-trip time of the link, 0 while it is unknown.
func (s *Session) RTT() time.Duration { return time.Duration(s.link.rtt.Load()) }

// Probe asks the peer for a sign of life now. The session ends when none comes
// within a few seconds: a hint that the network changed is worth the question.
func (s *Session) Probe() { s.link.probe() }

// Away is closed when the peer takes no new streams on this session.
func (s *Session) Away() <-chan struct{} { return s.away }

// Done is closed when the session has ended; Err then says why.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is nil while the session lives. It wraps ErrLinkLost where the
// connection died, a *ClosedError where the peer said goodbye.
func (s *Session) Err() error {
	if !closed(s.done) {
		return nil
	}
	return s.link.cause()
}

// cause prefers the reason for the session's end to what yamux made of it.
func (s *Session) cause(err error) error {
	if cause := s.link.cause(); cause != nil {
		err = cause
	} else if !errors.Is(err, yamux.ErrSessionShutdown) { // yamux is before the link in ending, at times
		return err
	}
	return fmt.Errorf("%w: %w", ErrSessionLost, err)
}

// Shutdown refuses new streams, asks the peer to open none, waits until the
// present ones have ended or ctx is done, and closes the session with a reason
// for the peer. It returns ctx's error when streams were cut short.
func (s *Session) Shutdown(ctx context.Context, code CloseCode, reason string) error {
	s.mu.Lock()
	if s.idle == nil {
		s.idle = make(chan struct{})
		if len(s.streams) == 0 {
			close(s.idle)
		}
	}
	idle := s.idle
	s.mu.Unlock()
	s.control.send(controlFrame{typ: controlAway})
	var err error
	select {
	case <-idle:
	case <-s.done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.CloseReason(code, reason)
	return err
}

// CloseReason ends the session for a reason that the peer is told. What was
// written before arrives, within a few seconds; streams that are open are
// reset.
func (s *Session) CloseReason(code CloseCode, reason string) {
	s.link.finish(code, reason)
	s.Close()
}

// Close ends the session at once; its streams are reset. It returns when
// everything that the session started has ended.
func (s *Session) Close() error {
	s.link.Close()
	s.endStreams()
	s.yamux.Close()
	s.wg.Wait()
	s.link.wait()
	return nil
}

// yamuxLogger passes yamux's log lines, which are for developers, on as debug.
type yamuxLogger struct{ log *slog.Logger }

func (l yamuxLogger) Print(v ...any)   { l.Printf("%s", fmt.Sprint(v...)) }
func (l yamuxLogger) Println(v ...any) { l.Printf("%s", fmt.Sprintln(v...)) }

// Printf formats only what is wanted: a peer can provoke any number of lines.
func (l yamuxLogger) Printf(format string, v ...any) {
	if ctx := context.Background(); l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.DebugContext(ctx, fmt.Sprintf(format, v...))
	}
}

// jitter spreads d by a quarter either way.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + time.Duration(rand.Int64N(int64(d/2)+1))
}
