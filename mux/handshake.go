package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/hashicorp/yamux"

	"adit/tunnel"
)

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
