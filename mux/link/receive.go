package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"adit/tunnel/ws"
)

// When received bytes are acknowledged: at the latest after ackEvery bytes, or
// bulkAckDelay after bulkAfter bytes, or ackDelay after the first byte.
const (
	ackEvery     = 256 << 10
	bulkAfter    = 8 << 10
	bulkAckDelay = 1 * time.Millisecond
	ackDelay     = 25 * time.Millisecond
)

// Read reads the peer's bytes, and waits while the link is detached. Its error
// is why the link is over. Only one goroutine may call it.
func (l *Link) Read(p []byte) (int, error) {
	for {
		if isClosed(l.done) { // the closing handshake still reads
			return 0, l.Err()
		}
		c := l.current
		if c == nil || isClosed(c.gone) {
			if c = l.awaitAttached(); c == nil {
				return 0, l.Err()
			}
			l.current = c
		}
		n, err := c.read(l, p)
		if n = l.accept(c, p[:n]); n > 0 {
			yieldAfter(&l.unyielded, n)
			return n, nil
		}
		if err != nil {
			l.readFailed(c, err)
		}
	}
}

// Buffered reports whether the connection has bytes that Read can return without
// waiting for the network. Only the goroutine that calls Read may call it.
func (l *Link) Buffered() bool { return l.current != nil && l.current.conn.Buffered() }

// awaitAttached returns the next connection to read from, or nil when the link
// is over.
func (l *Link) awaitAttached() *connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.conn == nil && l.err == nil {
		l.attached.Wait()
	}
	if l.err != nil {
		return nil
	}
	return l.conn
}

// accept counts the bytes that were read from c and returns how many of them are
// new, moved to the front. The input of a detached connection is ignored: it
// comes again.
func (l *Link) accept(c *connection, p []byte) int {
	if len(p) == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != c {
		return 0
	}
	came := uint64(len(p))
	if c.skip > 0 {
		k := min(c.skip, came)
		c.skip -= k
		p = p[:copy(p, p[k:])]
	}
	l.received.Add(uint64(len(p)))
	owed := l.arrivedLocked() - l.ackSent
	switch {
	case owed >= ackEvery && !l.ackDue:
		l.ackDue = true
		l.work.Signal()
	case owed >= bulkAfter && owed-came < bulkAfter:
		l.ackTimer.Reset(bulkAckDelay)
	case owed == came: // the first since the last acknowledgement
		l.ackTimer.Reset(ackDelay)
	}
	return len(p)
}

// arrivedLocked is what may be acknowledged. If an earlier connection brought
// more than this one has, that is less than received: the peer counts from where
// it began again.
func (l *Link) arrivedLocked() uint64 {
	if l.conn == nil {
		return l.received.Load()
	}
	return l.received.Load() - l.conn.skip
}

// ackLate is called when received or corked bytes have waited for long enough.
func (l *Link) ackLate() {
	l.mu.Lock()
	if l.arrivedLocked() != l.ackSent {
		l.ackDue = true
	}
	l.corkedTo = 0
	l.work.Signal()
	l.mu.Unlock()
}

// readFailed ends the link if the peer ended the session or broke the protocol;
// otherwise only c is lost.
func (l *Link) readFailed(c *connection, err error) {
	var closed *ClosedError
	if !errors.Is(err, ErrProtocol) && !errors.As(err, &closed) {
		l.lose(c, lost(err))
		return
	}
	l.mu.Lock()
	if l.conn == c {
		l.failLocked(err)
	}
	l.mu.Unlock()
}

// lost says what the loss of the connection means for the session.
func lost(err error) error { return fmt.Errorf("%w: %w", ErrLost, err) }

// Received is how many bytes Read has returned in all: where a resumption
// continues.
func (l *Link) Received() uint64 { return l.received.Load() }

// read reads bytes of the link's stream.
func (c *connection) read(l *Link, p []byte) (int, error) {
	for {
		if !c.inMessage {
			if err := c.nextMessage(l); err != nil {
				return 0, err
			}
			c.inMessage, c.hasData = true, false
		}
		n, err := c.conn.Read(p)
		if n > 0 {
			c.hasData = true
			return n, nil
		}
		if err == io.EOF && !c.hasData {
			return 0, ProtocolError("a data message without data")
		}
		if err == io.EOF {
			c.inMessage = false
		} else if err != nil {
			return 0, err
		}
	}
}

// nextMessage goes to the payload of the next data message and handles every
// other message before it.
func (c *connection) nextMessage(l *Link) error {
	var head [1 + AckSize]byte
	for {
		op, err := c.conn.NextMessage()
		if err != nil {
			return err
		}
		if op != ws.OpBinary {
			return ProtocolError("a text message on the link")
		}
		if _, err := io.ReadFull(c.conn, head[:1]); err != nil {
			return cutShort(err)
		}
		switch t := MessageType(head[0]); t {
		case MessageData, MessageAck:
			if _, err := io.ReadFull(c.conn, head[1:]); err != nil {
				return cutShort(err)
			}
			if err := l.acknowledged(c, binary.BigEndian.Uint64(head[1:])); err != nil {
				return err
			}
			if t == MessageData {
				return nil
			}
		case MessageClose:
			rest, err := io.ReadAll(io.LimitReader(c.conn, 2+MaxReason))
			if err != nil {
				return err
			}
			closed, err := ParseClose(append(head[:1:1], rest...))
			if err != nil {
				return err
			}
			return closed
		case MessageHello:
			return ProtocolError("a second hello")
		}
	}
}

// cutShort tells a message that is too short from a connection that broke: only
// the former gives these errors bare.
func cutShort(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ProtocolError("a message of the link cut short")
	}
	return err
}
