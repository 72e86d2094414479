package link

import (
	"net"
	"time"
)

// Resumption describes how a link continued on another connection.
type Resumption struct {
	Down       time.Duration // how long the link was detached; 0 after a migration
	Replayed   int           // bytes that this side sends a second time
	RemoteAddr net.Addr
}

// Detach stops using the current connection, ignores its late input, and returns
// the resume offsets: received is what this side has received, and start the
// number of the first byte that it will send. peerHas is what the peer has
// received. Attach or AttachFailed must follow. An error that wraps ErrProtocol
// leaves the link as it was.
//
// It is for the side that accepts connections; Migrate is for the other.
func (l *Link) Detach(peerHas uint64) (received, start uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return 0, 0, l.err
	}
	if peerHas > l.send.high {
		return 0, 0, ProtocolError("byte %d has been received, %d were sent", peerHas, l.send.high)
	}
	if c := l.conn; c != nil {
		l.detachLocked(c, errSuperseded)
		if l.hold > 0 { // otherwise AttachFailed ends the link
			l.holdTimer.Reset(l.hold)
		}
	}
	// What the peer acknowledged later, by the old connection, it has as well.
	start = max(peerHas, l.send.acked)
	l.continueLocked(start)
	l.ackSent, l.ackDue = l.received.Load(), false
	return l.ackSent, start, nil
}

// continueLocked takes it that the peer has received the bytes before number to,
// and goes on sending there.
func (l *Link) continueLocked(to uint64) {
	l.send.rewind(to)
	if to > l.send.acked {
		l.send.acknowledge(to)
	}
	l.drained.Broadcast()
}

// Attach puts a link that Detach has detached on its next connection.
func (l *Link) Attach(conn Conn) error {
	l.mu.Lock()
	if l.err != nil {
		defer l.mu.Unlock()
		return l.err
	}
	l.resumeLocked(newConnection(conn, 0))
	return nil
}

// AttachFailed says that the connection for which the link was detached did not
// come. It reports whether the link has lost a living connection by that.
func (l *Link) AttachFailed(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil || !l.migrating:
		return false
	case l.hold <= 0:
		l.failLocked(lost(err))
		return false
	}
	l.migrating, l.lostBy = false, err
	l.drained.Broadcast()
	close(l.down)
	return true
}

// Migrate puts the link on conn. The peer, which was told that this side had
// received told bytes, has received peerHas bytes and sends from byte start on.
// Until now the connection before conn, if it was alive, was in use.
func (l *Link) Migrate(conn Conn, told, peerHas, start uint64) error {
	l.mu.Lock()
	received := l.received.Load()
	var err error
	switch {
	case l.err != nil:
		err = l.err
	case start < told || start > received || peerHas < l.send.acked || peerHas > l.send.high:
		err = ProtocolError("resumed at bytes %d and %d, not from %d to %d and from %d to %d",
			peerHas, start, l.send.acked, l.send.high, told, received)
		l.failLocked(err)
	}
	if err != nil {
		l.mu.Unlock()
		return err
	}
	if c := l.conn; c != nil {
		l.detachLocked(c, errSuperseded)
	}
	l.continueLocked(peerHas)
	l.ackSent, l.ackDue = start, false
	l.resumeLocked(newConnection(conn, received-start))
	return nil
}

// resumeLocked attaches c, and unlocks l.mu.
func (l *Link) resumeLocked(c *connection) {
	r := Resumption{Replayed: int(l.send.high - l.send.sent), RemoteAddr: c.conn.RemoteAddr()}
	if !l.migrating {
		r.Down = time.Since(l.since)
	}
	l.resumes++
	l.replayed += uint64(r.Replayed)
	l.last = r
	l.attachLocked(c)
	l.mu.Unlock()
	if l.cfg.OnUp != nil {
		l.cfg.OnUp(r)
	}
}
