package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/hashicorp/yamux"

	"adit/tunnel/ws"
)

// Client starts a session on a connection that this side has dialled, and
// takes the connection over, also when it fails. It returns when the server's
// hello has arrived.
func Client(ctx context.Context, conn *ws.Conn, config *Config) (*Session, error) {
	cfg := config.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, cfg.HandshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.CloseNow() })
	defer stop()
	peer, err := askHello(conn, cfg.hello())
	if err == nil {
		var s *Session
		if s, err = startClient(conn, cfg, peer); err == nil && stop() {
			return s, nil
		}
		if err == nil { // too late: the connection is being closed
			s.Close()
			err = s.Err()
		}
	}
	conn.CloseNow()
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return nil, fmt.Errorf("session handshake: %w", err)
}

// Server is Client for the side that accepted the connection, and for sessions
// that end with it. For others there is Registry.Serve.
func Server(ctx context.Context, conn *ws.Conn, cfg *Config) (*Session, error) {
	s, _, err := (*Registry)(nil).Serve(ctx, conn, "", nil, cfg)
	return s, err
}

// hello is what this side says of itself.
func (c *Config) hello() hello {
	return hello{
		version: Version, maxStreams: uint32(c.MaxStreams), credit: uint32(c.InitialCredit),
		hold: milliseconds(c.ResumeTimeout),
	}
}

// askHello sends the client's hello and reads the server's answer.
func askHello(conn *ws.Conn, own hello) (hello, error) {
	if err := conn.WriteMessage(ws.OpBinary, appendHello(nil, own)); err != nil {
		return hello{}, err
	}
	return readHello(conn, true)
}

// refuse ends a connection before it has become a session's.
func refuse(conn *ws.Conn, code CloseCode, reason string) {
	conn.WriteMessage(ws.OpBinary, appendClose(nil, code, reason))
	conn.Close(ws.StatusPolicy, "")
}

func role(client bool) string {
	if client {
		return "client"
	}
	return "server"
}

// readHello reads the peer's hello, and refuses one of another version.
func readHello(conn *ws.Conn, client bool) (hello, error) {
	peer, err := readFirst(conn)
	if err != nil || peer.version == Version {
		return peer, err
	}
	reason := fmt.Sprintf("this %s speaks version %d of the link protocol, the %s version %d: upgrade the older one",
		role(client), Version, role(!client), peer.version)
	refuse(conn, CloseVersion, reason)
	return hello{}, errors.New(reason)
}

func readFirst(conn *ws.Conn) (hello, error) {
	op, err := conn.NextMessage()
	if err != nil {
		return hello{}, err
	}
	if op != ws.OpBinary {
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

// startClient starts the session that the server's hello has agreed to.
func startClient(conn *ws.Conn, cfg Config, peer hello) (*Session, error) {
	hold := min(cfg.ResumeTimeout, time.Duration(peer.hold)*time.Millisecond)
	if peer.key == nil {
		hold = 0
	}
	s := newSession(cfg, peer)
	s.key = peer.key
	return s, s.begin(context.Background(), conn, hold, true)
}

func newSession(cfg Config, peer hello) *Session {
	return &Session{
		cfg: cfg, peer: peer, resuming: make(chan struct{}, 1),
		streams: make(map[uint32]*Stream),
		away:    make(chan struct{}), move: make(chan time.Duration, 1), done: make(chan struct{}),
	}
}

var errNoControl = errors.New("the client opens no control stream")

// begin builds the layers above the connection. The first yamux stream is the
// control stream. From the moment that the client has been told of it the
// session can be resumed: the client may have opened streams by then.
func (s *Session) begin(ctx context.Context, conn *ws.Conn, hold time.Duration, client bool) error {
	cfg := s.cfg
	s.link = newLink(conn, linkConfig{
		ring: cfg.Ring, pingInterval: cfg.PingInterval, silence: cfg.Silence,
		hold: hold, settled: s.registry != nil, onDown: s.wentDown, onUp: s.cameUp,
	})
	s.conn = &yamuxConn{
		link: s.link, ended: s.endStreams,
		limit:  int64(cfg.MaxStreams)*int64(cfg.InitialCredit+streamSlack) + int64(cfg.Budget) + 1<<20,
		parity: 1, inboxes: make(map[uint32]*inbox), updateAfter: int(cfg.yamuxWindow() / 2),
	}
	yc := &yamux.Config{
		AcceptBacklog:     streamBacklog,
		KeepAliveInterval: time.Hour, // unused, but must be set
		// Stalls are the link's business: it notices silence. A yamux timeout
		// would lose frames of a healthy, slow link.
		ConnectionWriteTimeout: 24 * time.Hour,
		// Never in the way of our own credit, which yamux's updates lag behind
		// by up to half a window.
		MaxStreamWindowSize: cfg.yamuxWindow(),
		// No StreamCloseTimeout: it would reset a stream that has ended well
		// here under a peer that still reads what it was sent, for hours
		// maybe. Accept bounds what a peer may leave half closed.
		Logger: yamuxLogger{cfg.Logger},
	}
	start, first := yamux.Server, (*yamux.Session).AcceptStream
	if client {
		start, first = yamux.Client, (*yamux.Session).OpenStream
		s.conn.parity = 0
	}
	var err error
	if s.yamux, err = start(s.conn, yc); err != nil {
		s.link.Close()
		s.link.wait()
		s.neverBegan()
		return err
	}
	if !client {
		defer context.AfterFunc(ctx, func() { s.link.fail(context.Cause(ctx)) })()
		silent := time.AfterFunc(cfg.HandshakeTimeout+hold, func() { s.link.fail(errNoControl) })
		defer silent.Stop()
	}
	if s.registry != nil {
		<-s.resuming // from now on
	}
	ys, err := first(s.yamux)
	if err == nil && ys.StreamID() != controlStream {
		err = protocolError("the first stream is number %d", ys.StreamID())
	}
	if err == nil && client {
		// The opening of a yamux stream travels with its first data.
		err = s.conn.writeData(controlStream, appendControl(make([]byte, yamuxHeader), controlFrame{}))
	}
	if err != nil {
		cause := s.link.cause()
		s.link.fail(err)
		s.yamux.Close()
		s.link.wait()
		if s.registry != nil {
			s.registry.remove(s)
		}
		return errors.Join(err, cause)
	}
	s.control = newControl(s)
	s.link.settle()
	s.wg.Go(s.control.write)
	s.wg.Go(s.control.read)
	s.wg.Go(s.ended)
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
