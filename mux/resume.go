package mux

import (
	"context"
	"errors"
	"fmt"

	"adit/tunnel/ws"
)

// ErrNotResumable is wrapped by the error of Resume when the session can never
// be resumed: it has ended, or the server does not know it.
var ErrNotResumable = errors.New("the session cannot be resumed")

// Resume continues the session, which the client's side has started, on another
// connection, and takes that over, also when it fails. The present connection
// may be lost or alive: if alive, it stays in use until the new one supersedes
// it, and no byte is lost or comes twice.
//
// If the server does not know the session, the same connection begins a new one,
// which Resume returns; s then ends with its present connection, or has ended if
// it had none. Otherwise Resume returns s. After an error s lives on, and another
// attempt may follow, unless the error wraps ErrNotResumable. Attempts must not
// overlap.
func (s *Session) Resume(ctx context.Context, conn *ws.Conn) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.HandshakeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.CloseNow() })
	defer stop()
	next, err := s.resume(ctx, conn)
	if err == nil && !stop() { // too late: the connection is being closed
		if next != s {
			next.Close()
		}
		err = ErrLinkLost
	}
	if err != nil {
		conn.CloseNow()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		if cause := s.link.Err(); cause != nil {
			err = fmt.Errorf("%w: %w", ErrNotResumable, cause)
		}
		return nil, fmt.Errorf("resuming the session: %w", err)
	}
	return next, nil
}

func (s *Session) resume(ctx context.Context, conn *ws.Conn) (*Session, error) {
	if s.key == nil || !s.Resumable() {
		return nil, ErrNotResumable
	}
	s.attempt++
	ask := &resumption{id: s.key.id, attempt: s.attempt, received: s.link.Received()}
	ask.proof = s.key.sign(ask)
	own := s.cfg.hello()
	own.resume = ask
	answer, err := askHello(conn, own)
	if refused := (*ClosedError)(nil); errors.As(err, &refused) && refused.Code == CloseUnknown {
		s.link.Fail(fmt.Errorf("%w: %w", ErrLinkLost, err))
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	if r := answer.resumed; r != nil {
		return s, s.link.Migrate(conn, ask.received, r.received, r.start)
	}
	s.link.EndWithConnection(fmt.Errorf("%w, and the server does not know the session any more", ErrLinkLost))
	return startClient(conn, s.cfg, answer)
}

// Resumable reports whether the session lives and may outlive its connection.
func (s *Session) Resumable() bool { return s.link.CanResume() }

// EndWithConnection makes the session end when its connection is lost; without
// one it ends at once, unless a migration is under way.
func (s *Session) EndWithConnection() {
	s.link.EndWithConnection(fmt.Errorf("%w, and the session is not to be resumed", ErrLinkLost))
}
