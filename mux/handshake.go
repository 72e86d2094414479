package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"adit/mux/link"
	"adit/tunnel/ws"
)

// Client starts a session on a connection that this side has dialed. It takes
// the connection over, also when it fails. It returns when the server's hello
// has arrived.
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

// hello is what this side says of itself.
func (c *Config) hello() hello {
	return hello{
		version: Version, maxStreams: uint32(c.MaxStreams), credit: uint32(c.InitialCredit),
		hold: milliseconds(c.ResumeTimeout), kinds: []Kind{TCP, Unix, Named},
	}
}

var errEcho = errors.New("the peer sends back what it gets: the URL is that of a route to an echo service, not of the tunnel")

// askHello sends the client's hello and reads the server's answer.
func askHello(conn *ws.Conn, own hello) (hello, error) {
	own.client = true
	if err := conn.WriteMessage(ws.OpBinary, appendHello(nil, own)); err != nil {
		return hello{}, err
	}
	peer, err := readHello(conn, true)
	if err == nil && peer.client {
		err = errEcho
	}
	return peer, err
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

// readFirst reads the first message: a hello, or a close message, which is
// returned as a *ClosedError.
func readFirst(conn *ws.Conn) (hello, error) {
	op, err := conn.NextMessage()
	if err != nil {
		return hello{}, err
	}
	if op != ws.OpBinary {
		return hello{}, link.ProtocolError("a text message instead of a hello")
	}
	b, err := io.ReadAll(io.LimitReader(conn, maxHello+1))
	if err != nil {
		return hello{}, err
	}
	if len(b) > maxHello {
		return hello{}, link.ProtocolError("hello of more than %d bytes", maxHello)
	}
	if len(b) > 0 && link.MessageType(b[0]) == link.MessageClose {
		closed, err := link.ParseClose(b)
		if err != nil {
			return hello{}, err
		}
		return hello{}, closed
	}
	return parseHello(b)
}

// refuse ends a connection before a session has it.
func refuse(conn *ws.Conn, code CloseCode, reason string) {
	conn.WriteMessage(ws.OpBinary, link.AppendClose(nil, code, reason))
	conn.Close(ws.StatusPolicy, "")
}

func role(client bool) string {
	if client {
		return "client"
	}
	return "server"
}
