package mux

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"adit/tunnel/ws"
)

// ErrNotResumable is wrapped by the error of Resume when the session can never
// be resumed: it has ended, or the server does not know it.
var ErrNotResumable = errors.New("the session cannot be resumed")

// errRelieved is the end of a connection that another has taken over from.
var errRelieved = errors.New("another connection has taken over")

// Resumption tells of a session that goes on over another connection.
type Resumption struct {
	Down       time.Duration // how long it had no connection; 0 if the new one relieved the old
	Replayed   int           // bytes that this side sends a second time
	RemoteAddr net.Addr
}

// fence lets go of the link's connection, so that what is received by it from
// now on counts for nothing, and gives where each direction goes on: behind
// what this side has received, and at what the peer, which has received
// peerHas bytes, will get as the first byte.
func (l *link) fence(peerHas uint64) (received, start uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return 0, 0, l.err
	}
	if peerHas > l.ring.high {
		return 0, 0, protocolError("byte %d has been received, %d were sent", peerHas, l.ring.high)
	}
	if c := l.carrier; c != nil {
		l.dropLocked(c, errRelieved)
		if l.cfg.hold > 0 { // else unattached ends the link
			l.holdTimer.Reset(l.cfg.hold)
		}
	}
	// What the peer said later, by the old connection, it knows as well.
	start = max(peerHas, l.ring.acked)
	l.continueLocked(start)
	l.ackSent, l.ackDue = l.received.Load(), false
	return l.ackSent, start, nil
}

// continueLocked takes it that the peer has received the bytes before number
// to, and goes on sending there.
func (l *link) continueLocked(to uint64) {
	l.ring.rewind(to)
	if to > l.ring.acked {
		l.ring.acknowledge(to)
	}
	l.drained.Broadcast()
}

// unattached is a link that has been fenced for a connection that did not come.
// It reports whether the link has lost another by that.
func (l *link) unattached(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil || !l.relieved:
		return false
	case l.cfg.hold <= 0:
		l.failLocked(lost(err))
		return false
	}
	l.relieved, l.lostBy = false, err
	l.drained.Broadcast()
	close(l.down)
	return true
}

// attach puts the link, which has been fenced, on its next connection.
func (l *link) attach(conn *ws.Conn) error {
	l.mu.Lock()
	if l.err != nil {
		defer l.mu.Unlock()
		return l.err
	}
	l.resumeLocked(newCarrier(conn, 0))
	return nil
}

// relieve puts the link on its next connection, where the peer has agreed to
// go on after this side said that it had received told bytes. Until now the
// connection before it, if it was alive, has been in use.
func (l *link) relieve(conn *ws.Conn, told uint64, r resumed) error {
	l.mu.Lock()
	received := l.received.Load()
	var err error
	switch {
	case l.err != nil:
		err = l.err
	case r.start < told || r.start > received || r.received < l.ring.acked || r.received > l.ring.high:
		err = protocolError("resumed at bytes %d and %d, not from %d to %d and from %d to %d", r.received, r.start, l.ring.acked, l.ring.high, told, received)
		l.failLocked(err)
	}
	if err != nil {
		l.mu.Unlock()
		return err
	}
	if c := l.carrier; c != nil {
		l.dropLocked(c, errRelieved)
	}
	l.continueLocked(r.received)
	l.ackSent, l.ackDue = r.start, false
	l.resumeLocked(newCarrier(conn, received-r.start))
	return nil
}

// resumeLocked begins to use c, and unlocks l.mu.
func (l *link) resumeLocked(c *carrier) {
	r := Resumption{Replayed: int(l.ring.high - l.ring.sent), RemoteAddr: c.conn.RemoteAddr()}
	if !l.relieved {
		r.Down = time.Since(l.since)
	}
	l.resumes++
	l.replayed += uint64(r.Replayed)
	l.last = r
	l.carryLocked(c)
	l.mu.Unlock()
	if l.cfg.onUp != nil {
		l.cfg.onUp(r)
	}
}

// Resume continues the session, which the client's side has started, over
// another connection, and takes that over, also when it fails. The present
// connection may be lost or alive: then it is in use until the moment when the
// new one relieves it, and no byte is lost or comes twice.
//
// Where the server does not know the session, the same connection begins a new
// one, which Resume returns; s ends then with its present connection, or has
// ended if it had none. Otherwise it returns s. After
// an error s lives on, and another attempt may follow, unless the error wraps
// ErrNotResumable. Attempts must not overlap.
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
		if cause := s.link.cause(); cause != nil {
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
	ask := &resumption{id: s.key.id, attempt: s.attempt, received: s.link.received.Load()}
	ask.proof = s.key.sign(ask)
	own := s.cfg.hello()
	own.resume = ask
	answer, err := askHello(conn, own)
	if refused := (*ClosedError)(nil); errors.As(err, &refused) && refused.Code == CloseUnknown {
		s.link.fail(fmt.Errorf("%w: %w", ErrLinkLost, err))
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	if answer.resumed != nil {
		return s, s.link.relieve(conn, ask.received, *answer.resumed)
	}
	s.endWithConnection(fmt.Errorf("%w, and the server does not know the session any more", ErrLinkLost))
	return startClient(conn, s.cfg, answer)
}

// Resumable reports whether the session lives and may outlive its connection.
func (s *Session) Resumable() bool {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	return s.link.cfg.hold > 0 && s.link.err == nil
}

// EndWithConnection makes the session end when its connection is lost; without
// one it ends at once, unless another is just taking over.
func (s *Session) EndWithConnection() {
	s.endWithConnection(fmt.Errorf("%w, and the session is not to be resumed", ErrLinkLost))
}

func (s *Session) endWithConnection(err error) {
	l := s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cfg.hold = 0
	if l.carrier == nil && !l.relieved {
		l.failLocked(err)
	}
}

// Down is closed when the session's present connection is lost. While there is
// none, it is closed.
func (s *Session) Down() <-chan struct{} {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	return s.link.down
}
