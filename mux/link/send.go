package link

import (
	"encoding/binary"
	"errors"
	"time"

	"adit/tunnel"
	"adit/tunnel/ws"
)

const (
	// highWatermark bounds the bytes that wait for the connection. What answers a
	// peer has room in it although the path is full: the reading goroutine must
	// not have to wait for that.
	highWatermark = 256 << 10
	// Small is the size up to which written bytes are sent with priority: they may
	// be a keystroke, which must not wait behind bulk data.
	Small = 2 << 10
	// MaxFrame bounds FrameSize.
	MaxFrame = 128 << 10
	// FrameHeadroom is what a frame's headers may add to FrameSize bytes of data
	// for one message to carry all of it.
	FrameHeadroom = 16
)

// headerSlack is how many bytes of headers WriteHeader queues above the high
// watermark before it waits. Bytes that are sent again do not count.
const headerSlack = 1 << 20

// ErrCanceled is returned by writes whose cancel channel was closed while they
// waited for room in the queue. Nothing of them was queued.
var ErrCanceled = errors.New("the write was canceled")

// Write queues b in one piece, and sends it from the calling goroutine if none is
// sending. It blocks while the queue is above the high watermark, the send buffer is
// full, or the link is detached, until cancel is closed; nil never is. It also blocks
// while the connection takes nothing, so the goroutine that calls Read must not call
// it. Many goroutines may.
func (l *Link) Write(b []byte, cancel <-chan struct{}) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.awaitQueue(highWatermark, len(b), cancel); err != nil {
		return err
	}
	l.queue(b)
	if len(b) <= Small {
		l.priorityTo = l.send.tail
	}
	l.sendInline()
	return nil
}

// WriteHeader queues a small header that nothing waits for if corked is true: it
// then leaves together with the next bytes, or with the next acknowledgement, or
// after ackDelay. It does not wait for room, nor for a connection, nor for what is
// sent again after a resumption, so that a stream can be opened and closed at any
// time; only a peer that makes this side write headers without reading them makes it
// wait.
func (l *Link) WriteHeader(b []byte, corked bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.err == nil && l.conn != nil && l.send.tail-l.send.high >= highWatermark+headerSlack {
		l.corkedTo = 0
		l.work.Signal()
		l.space.wait(&l.mu, nil)
	}
	if l.err != nil {
		return l.err
	}
	alone := l.send.unsent() == 0 || l.send.tail == l.corkedTo
	l.queue(b)
	switch {
	case !corked:
		l.priorityTo = l.send.tail
		l.work.Signal()
	case alone:
		l.corkedTo = l.send.tail
		if l.ackDue || l.arrivedLocked() == l.ackSent { // otherwise the timer runs already
			l.ackTimer.Reset(ackDelay)
		}
	}
	return nil
}

// WriteOwned is Write for b.Bytes[from:to], without a copy: the link frees b.
func (l *Link) WriteOwned(b *tunnel.Buffer, from, to int, cancel <-chan struct{}) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.awaitQueue(highWatermark, to-from, cancel); err != nil {
		b.Free()
		return err
	}
	l.send.appendOwned(b, from, to)
	l.sendInline()
	return nil
}

// sendInline sends what was queued so far from the calling goroutine, unless another
// one is sending. Waking sendLoop for it costs more: over a veth pair one bulk stream
// has 1.06 times the throughput this way (5 rounds, up and down), and on loopback an
// idle round trip and a new connection save a hand-off at each end. mu is held, and
// released while a message is written.
func (l *Link) sendInline() {
	for to := l.send.tail; l.send.sent < to && !l.sending && l.err == nil && l.closeMsg == nil; {
		c := l.conn
		if c == nil || c.writeFailed || !l.sendable() {
			break
		}
		if err := l.sendData(c); err != nil && l.conn == c {
			c.writeErrorLocked()
		}
	}
	l.work.Signal()
}

// WaitLowWatermark waits until the queue is below its low watermark, half a
// message, or cancel is closed. Bulk writers call it before they write, so that
// small frames find room in the queue and few bytes ahead of them.
func (l *Link) WaitLowWatermark(cancel <-chan struct{}) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.awaitQueue(l.flight.messageSize()/2, 0, cancel)
}

// WaitRoom waits until Write would not wait, or cancel is closed.
func (l *Link) WaitRoom(cancel <-chan struct{}) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.awaitQueue(highWatermark, 0, cancel)
}

// FrameSize is the most bytes of data that a frame should have now, so that the
// next one does not wait long behind it. At most MaxFrame.
func (l *Link) FrameSize() int { return int(l.frameSize.Load()) }

// queue appends b to the send buffer. mu is held.
func (l *Link) queue(b []byte) {
	for len(b) > 0 {
		b = b[l.send.append(b):]
	}
}

// awaitQueue waits until the link is attached, fewer than limit bytes wait to be
// sent, and the send buffer has room for n bytes more. mu is held.
func (l *Link) awaitQueue(limit, n int, cancel <-chan struct{}) error {
	for l.err == nil && (l.conn == nil || l.send.unsent() >= limit || l.fullFor(n)) {
		l.corkedTo = 0 // more follows
		l.work.Signal()
		if !l.space.wait(&l.mu, cancel) {
			return ErrCanceled
		}
	}
	return l.err
}

// fullFor reports whether the send buffer has no room for n bytes more: neither the
// bytes in it nor the memory that they occupy may grow without bound. An empty
// buffer has room for any n. mu is held.
func (l *Link) fullFor(n int) bool {
	held, bound := l.send.held(), l.cfg.SendBuffer
	return held > 0 && (held+n > bound || l.send.memory > 2*bound)
}

// sendLoop sends what is queued, and not sent by sendInline, as fast as the connection
// takes it. Everything that gathers while one message is being written leaves as
// the next one.
func (l *Link) sendLoop() {
	small := make([]byte, l.headroom+1+AckSize+MaxReason)
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		c := l.awaitWork()
		if c == nil {
			return
		}
		var err error
		switch {
		case l.closeMsg != nil:
			l.writeUnlocked(c, append(small[:l.headroom], l.closeMsg...))
			l.failLocked(errCloseSent)
			return
		case l.sendable():
			err = l.sendData(c)
		default:
			err = l.writeUnlocked(c, l.appendAck(small[:l.headroom], MessageAck))
		}
		if err != nil && l.conn == c { // a superseded connection's close message does not matter
			c.writeErrorLocked()
		}
	}
}

// sendData sends the next unsent bytes as one message. mu is held.
func (l *Link) sendData(c *connection) error {
	span := l.send.take(l.flight.messageSize() + FrameHeadroom)
	l.flight.sent(l.send.sent, time.Now())
	head := span.head(l.headroom + 1 + AckSize)
	l.appendAck(head[l.headroom:l.headroom], MessageData)
	l.space.wake()
	err := l.writeUnlocked(c, span.bytes())
	l.send.release(span)
	if l.noRetransmit && err == nil && l.send.acked < l.send.sent {
		l.send.acknowledge(l.send.sent)
		l.space.wake()
	}
	return err
}

// writeUnlocked writes a message without holding mu, which the caller holds. No
// goroutine is sending.
func (l *Link) writeUnlocked(c *connection, b []byte) error {
	l.sending = true
	l.mu.Unlock()
	err := c.conn.WriteBuffer(ws.OpBinary, b)
	yieldAfter(&l.unyieldedSend, len(b))
	l.mu.Lock()
	l.sending = false
	return err
}

// awaitWork waits until there is something to send and a connection to send it
// by, and returns that connection, or nil when the link is over. mu is held.
func (l *Link) awaitWork() *connection {
	for l.err == nil {
		if c := l.conn; c != nil && !l.sending && !c.writeFailed && (l.sendable() || l.ackDue || l.closeMsg != nil) {
			return c
		}
		l.work.Wait()
	}
	return nil
}

// sendable reports whether there are bytes that may leave now. mu is held.
func (l *Link) sendable() bool {
	corked := l.send.tail == l.corkedTo && !l.ackDue
	return l.send.unsent() > 0 && !corked && !l.flight.full(l.send.sent < l.priorityTo)
}

// appendAck appends a message's type and what has been received so far. mu is
// held.
func (l *Link) appendAck(b []byte, t MessageType) []byte {
	l.ackSent = l.arrivedLocked()
	l.ackDue = false
	return binary.BigEndian.AppendUint64(append(b, byte(t)), l.ackSent)
}

// acknowledged frees the bytes before number to, which the peer has received as
// it says by c.
func (l *Link) acknowledged(c *connection, to uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != c {
		return nil
	}
	l.flight.acked(to, l.send.unsent() > 0, time.Now())
	l.frameSize.Store(int64(l.flight.messageSize()))
	l.work.Signal()
	l.drained.Broadcast()
	if to <= l.send.acked {
		return nil
	}
	if to > l.send.sent {
		return ProtocolError("acknowledgement of byte %d, %d were sent", to, l.send.sent)
	}
	l.send.acknowledge(to)
	l.space.wake()
	return nil
}

// deliveredLocked is how many bytes the peer is known to have received.
func (l *Link) deliveredLocked() uint64 {
	if l.noRetransmit {
		return l.flight.ackedTo
	}
	return l.send.acked
}
