package mux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"adit/tunnel/ws"
)

// carrier is a WebSocket connection that carries the link.
type carrier struct {
	conn *ws.Conn

	skip      uint64 // bytes to come that have come by an earlier connection
	tellsWait bool   // link.tellUntold is called before each wait for the network
	inMessage bool   // read is inside a data message

	mute    bool          // writing has failed; guarded by link.mu
	gone    chan struct{} // closed when the link has let go of it
	nudge   chan struct{} // wakes watch
	probeBy atomic.Int64  // a probe's deadline on the link's clock; 0 is none
}

func newCarrier(conn *ws.Conn, skip uint64) *carrier {
	return &carrier{conn: conn, skip: skip, gone: make(chan struct{}), nudge: make(chan struct{}, 1)}
}

// carryLocked makes c the link's connection. There is none, and the link is
// not over.
func (l *link) carryLocked(c *carrier) {
	l.carrier, l.since, l.relieved = c, time.Now(), false
	if l.down == nil || closed(l.down) {
		l.down = make(chan struct{})
	}
	l.rtt.Store(0) // another path, maybe
	l.pace = pace{sentTo: l.ring.sent, ackedTo: l.ring.sent}
	l.piece.Store(int64(l.pace.piece()))
	l.holdTimer.Stop()
	c.conn.OnPong(l.pong)
	c.tellsWait = c.conn.OnWait(l.tellUntold)
	l.wg.Go(func() { l.watch(c) })
	l.attached.Broadcast()
	l.space.Broadcast()
	l.drained.Broadcast()
	l.work.Signal()
}

// dropLocked takes the link's connection away, because of err.
func (l *link) dropLocked(c *carrier, err error) {
	l.carrier, l.since = nil, time.Now()
	close(c.gone)
	l.work.Broadcast()
	l.drained.Broadcast()
	if l.relieved = err == errRelieved; !l.relieved {
		close(l.down)
	} else {
		c.conn.NetConn().SetDeadline(time.Now()) // who reads or writes shall turn to the next
	}
	l.wg.Go(func() { c.hangUp(l, err) })
}

// lose is the end of a connection. The link waits for another, if it may.
func (l *link) lose(c *carrier, err error) {
	l.mu.Lock()
	switch {
	case l.carrier != c:
	case l.cfg.hold <= 0 || l.farewell != nil || !l.settled:
		l.failLocked(err)
	default:
		l.dropLocked(c, err)
		l.lostBy = err
		l.holdTimer.Reset(l.cfg.hold)
		l.mu.Unlock()
		if l.cfg.onDown != nil {
			l.cfg.onDown(err)
		}
		return
	}
	l.mu.Unlock()
}

// footprint is the memory of what the link keeps to send again, in bytes, and
// whether it waits for a connection. While it does, that does not grow.
func (l *link) footprint() (bytes int64, waits bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.ring.memory), l.carrier == nil && l.err == nil
}

// interrupted reports whether the link has had no connection at some moment
// after a time, or has changed to another.
func (l *link) interrupted(after time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err == nil && (l.carrier == nil || l.since.After(after))
}

func (l *link) waitedTooLong() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.carrier == nil && time.Since(l.since) >= l.cfg.hold {
		l.failLocked(fmt.Errorf("%w, and not resumed within %v", ErrLinkLost, l.cfg.hold))
	}
}

// read gives bytes of the link's stream as they come.
func (c *carrier) read(l *link, p []byte) (int, error) {
	for {
		if !c.inMessage {
			if err := c.nextMessage(l); err != nil {
				return 0, err
			}
			c.inMessage = true
		}
		n, err := c.conn.Read(p)
		if n > 0 {
			return n, nil
		}
		if err == io.EOF {
			c.inMessage = false
		} else if err != nil {
			return 0, err
		}
	}
}

// nextMessage goes to the payload of the next data message and deals with all
// that comes before it.
func (c *carrier) nextMessage(l *link) error {
	var head [1 + ackSize]byte
	for {
		op, err := c.conn.NextMessage()
		if err != nil {
			return err
		}
		if op != ws.OpBinary {
			return protocolError("a text message on the link")
		}
		if _, err := io.ReadFull(c.conn, head[:1]); err != nil {
			return cutShort(err)
		}
		switch messageType(head[0]) {
		case messageData, messageAck:
			if _, err := io.ReadFull(c.conn, head[1:]); err != nil {
				return cutShort(err)
			}
			if err := l.acknowledged(c, binary.BigEndian.Uint64(head[1:])); err != nil {
				return err
			}
			if messageType(head[0]) == messageData {
				return nil
			}
		case messageClose:
			rest, err := io.ReadAll(io.LimitReader(c.conn, 2+MaxReason))
			if err != nil {
				return err
			}
			closed, err := parseClose(append(head[:1:1], rest...))
			if err != nil {
				return err
			}
			return closed
		case messageHello:
			return protocolError("a second hello")
		default:
			// A message of a later version; NextMessage skips it.
		}
	}
}

// cutShort tells a message that is too short from a connection that broke:
// only the former gives these errors bare.
func cutShort(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return protocolError("a message of the link cut short")
	}
	return err
}

// writeFailed leaves the verdict to the reader: what came before the end may
// be the peer's goodbye. link.mu is held.
func (c *carrier) writeFailed() {
	c.mute = true
	c.conn.NetConn().SetReadDeadline(time.Now().Add(lastWords))
}

// lastWords is how long a connection that cannot be written to is still read,
// and one that another has relieved is left open.
const lastWords = time.Second

// watch sends pings and notices silence.
func (l *link) watch(c *carrier) {
	timer := time.NewTimer(0) // the first ping at once: it measures the path
	defer timer.Stop()
	nextPing := time.Now()
	for {
		select {
		case <-c.gone:
			return
		case <-c.nudge:
			nextPing = time.Now()
		case <-timer.C:
		}
		now := time.Now()
		if !now.Before(nextPing) {
			c.conn.Ping(binary.BigEndian.AppendUint64(nil, uint64(now.Sub(l.start))))
			nextPing = now.Add(jitter(l.cfg.pingInterval))
		}
		last := c.conn.LastRead()
		deadline := last.Add(l.cfg.silence)
		if by := c.probeBy.Load(); by != 0 {
			if c.answered(l, by) {
				c.probeBy.CompareAndSwap(by, 0)
			} else if probe := l.start.Add(time.Duration(by)); probe.Before(deadline) {
				deadline = probe
			}
		}
		if !now.Before(deadline) {
			l.lose(c, fmt.Errorf("%w: not a byte from the peer for %v", ErrLinkLost, now.Sub(last).Round(time.Millisecond)))
			return
		}
		timer.Reset(min(deadline.Sub(now), nextPing.Sub(now)))
	}
}

// probeTimeout is how long a probe waits for any byte from the peer.
const probeTimeout = 4 * time.Second

// probe asks the peer for a sign of life, and gives the connection up when
// none comes within probeTimeout.
func (l *link) probe() {
	l.mu.Lock()
	c := l.carrier
	l.mu.Unlock()
	if c == nil {
		return
	}
	by := c.probeBy.Load()
	if by == 0 || c.answered(l, by) {
		c.probeBy.CompareAndSwap(by, int64(time.Since(l.start)+probeTimeout))
	}
	select {
	case c.nudge <- struct{}{}:
	default:
	}
}

// answered says that something has come since the probe that is due by then.
func (c *carrier) answered(l *link, by int64) bool {
	return c.conn.LastRead().After(l.start.Add(time.Duration(by) - probeTimeout))
}

// hangUp closes the connection, politely where there is somebody to hear it.
func (c *carrier) hangUp(l *link, err error) {
	var closed *ClosedError
	var closeFrame *ws.CloseError
	var fault *ws.ProtocolError
	switch {
	case err == errRelieved:
		// The peer closes it when it has moved; it shall not find it lost before.
		select {
		case <-l.done:
		case <-time.After(lastWords):
		}
		c.conn.CloseNow()
	case errors.Is(err, ErrProtocol):
		c.conn.NetConn().SetWriteDeadline(time.Now().Add(farewellTimeout)) // frees a writer that is stuck
		c.conn.WriteMessage(ws.OpBinary, appendClose(nil, CloseProtocol, err.Error()))
		c.conn.Close(ws.StatusProtocolError, "")
	case errors.As(err, &closed), errors.Is(err, errFarewell), errors.As(err, &closeFrame), errors.As(err, &fault):
		c.conn.Close(ws.StatusNormal, "")
	default:
		c.conn.CloseNow()
	}
}
