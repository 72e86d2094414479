package mux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"adit/tunnel"
)

// ErrLinkLost is wrapped by the error of a session whose connection died
// without a word from the peer.
var ErrLinkLost = errors.New("the link was lost")

// Why a link that was closed here is over.
var (
	errLinkClosed = errors.New("the link was closed here")
	errFarewell   = fmt.Errorf("%w after a farewell", errLinkClosed)
)

const (
	ackEvery = 256 << 10             // acknowledge at the latest after so many bytes …
	ackDelay = 25 * time.Millisecond // … or so long
)

// linkConfig has the bounds and times of a link; all are set.
type linkConfig struct {
	ring         int           // bytes kept until the peer acknowledges them
	queue        int           // of these, bytes that wait to be written
	pingInterval time.Duration // jittered by a quarter
	silence      time.Duration // a connection silent for so long is dead
}

// link is a reliable byte stream, each way, over one WebSocket connection. It
// is the net.Conn, so to say, that yamux runs on.
//
// Bytes that yamux writes are copied once, into the ring: there they are
// gathered while the previous message is being written, leave as one message,
// and stay until the peer has acknowledged them. One goroutine writes (flush),
// the one that calls Read reads, and one watches for silence.
type link struct {
	cfg   linkConfig
	start time.Time // of the clock that stamps pings

	mu       sync.Mutex
	conn     *tunnel.Conn
	ring     ring
	ackSent  uint64    // what the peer has been told about received
	ackDue   bool      // tell it soon
	farewell []byte    // a close message to send next, or nil
	err      error     // why the link is over
	space    sync.Cond // the ring has room, or err is set
	work     sync.Cond // there is something to write, or err is set
	drained  sync.Cond // more is acknowledged, or err is set

	ackTimer  *time.Timer
	inMessage bool          // Read is inside a data message
	received  atomic.Uint64 // payload bytes that Read has given out
	rtt       atomic.Int64  // smoothed, nanoseconds; 0 is unknown
	probeBy   atomic.Int64  // a probe's deadline on the link's clock; 0 is none

	done  chan struct{} // closed when err is set
	nudge chan struct{} // wakes watch
	wg    sync.WaitGroup
}

// newLink takes over conn, whose hello messages have been exchanged.
func newLink(conn *tunnel.Conn, cfg linkConfig) *link {
	l := &link{cfg: cfg, start: time.Now(), conn: conn, done: make(chan struct{}), nudge: make(chan struct{}, 1)}
	l.space.L, l.work.L, l.drained.L = &l.mu, &l.mu, &l.mu
	l.ackTimer = time.AfterFunc(time.Hour, l.ackLater)
	l.ackTimer.Stop()
	conn.OnPong(l.pong)
	l.wg.Go(l.flush)
	l.wg.Go(l.watch)
	return l
}

// Read gives the peer's bytes. Only one goroutine may call it.
func (l *link) Read(p []byte) (int, error) {
	if closed(l.done) { // the closing handshake still reads
		return 0, l.cause()
	}
	n, err := l.read(p)
	if err != nil {
		l.fail(err)
		return n, l.cause()
	}
	got := l.received.Add(uint64(n))
	l.mu.Lock()
	owed := got - l.ackSent
	switch {
	case owed >= ackEvery && !l.ackDue:
		l.ackDue = true
		l.work.Signal()
	case owed == uint64(n): // the first since the last acknowledgement
		l.ackTimer.Reset(ackDelay)
	}
	l.mu.Unlock()
	return n, nil
}

func (l *link) read(p []byte) (int, error) {
	for {
		if !l.inMessage {
			if err := l.nextMessage(); err != nil {
				return 0, err
			}
			l.inMessage = true
		}
		n, err := l.conn.Read(p)
		if n > 0 {
			return n, nil
		}
		if err == io.EOF {
			l.inMessage = false
		} else if err != nil {
			return 0, lost(err)
		}
	}
}

// nextMessage goes to the payload of the next data message and deals with all
// that comes before it.
func (l *link) nextMessage() error {
	var head [1 + ackSize]byte
	for {
		op, err := l.conn.NextMessage()
		if err != nil {
			return lost(err)
		}
		if op != tunnel.OpBinary {
			return protocolError("a text message on the link")
		}
		if _, err := io.ReadFull(l.conn, head[:1]); err != nil {
			return cutShort(err)
		}
		switch messageType(head[0]) {
		case messageData, messageAck:
			if _, err := io.ReadFull(l.conn, head[1:]); err != nil {
				return cutShort(err)
			}
			if err := l.acknowledged(binary.BigEndian.Uint64(head[1:])); err != nil {
				return err
			}
			if messageType(head[0]) == messageData {
				return nil
			}
		case messageClose:
			rest, err := io.ReadAll(io.LimitReader(l.conn, 2+MaxReason))
			if err != nil {
				return lost(err)
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

// acknowledged frees what the peer has received.
func (l *link) acknowledged(to uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if to > l.ring.sent {
		return protocolError("acknowledgement of byte %d, %d were sent", to, l.ring.sent)
	}
	if to <= l.ring.acked {
		return nil
	}
	l.ring.acknowledge(to)
	l.space.Signal()
	l.drained.Broadcast()
	return nil
}

func (l *link) ackLater() {
	l.mu.Lock()
	if l.received.Load() != l.ackSent {
		l.ackDue = true
		l.work.Signal()
	}
	l.mu.Unlock()
}

// write queues the parts as one piece, so that a frame's header and body
// leave together, and blocks while the queue is full. Only one goroutine may
// call it.
func (l *link) write(parts ...[]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range parts {
		for len(p) > 0 {
			for l.err == nil && (l.ring.unsent() >= l.cfg.queue || l.ring.held() >= l.cfg.ring) {
				l.work.Signal()
				l.space.Wait()
			}
			if l.err != nil {
				return l.err
			}
			n := min(len(p), l.cfg.queue-l.ring.unsent(), l.cfg.ring-l.ring.held())
			p = p[l.ring.append(p[:n]):]
		}
	}
	l.work.Signal()
	return nil
}

// flush writes what is queued, as fast as the connection takes it: everything
// that gathered while one message was being written leaves as the next one.
func (l *link) flush() {
	small := make([]byte, l.conn.Headroom()+1+ackSize+MaxReason)
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for l.err == nil && l.ring.unsent() == 0 && !l.ackDue && l.farewell == nil {
			l.work.Wait()
		}
		if l.err != nil {
			return
		}
		var err error
		switch {
		case l.farewell != nil:
			b := append(small[:l.conn.Headroom()], l.farewell...)
			l.mu.Unlock()
			l.conn.WriteBuffer(tunnel.OpBinary, b)
			l.mu.Lock()
			l.failLocked(errFarewell)
			return
		case l.ring.unsent() > 0:
			span := l.ring.take()
			head := span.head(l.conn.Headroom() + 1 + ackSize)
			l.appendAck(head[l.conn.Headroom():l.conn.Headroom()], messageData)
			l.space.Signal()
			l.mu.Unlock()
			err = l.conn.WriteBuffer(tunnel.OpBinary, span.bytes())
			l.mu.Lock()
			l.ring.release(span)
		default:
			b := l.appendAck(small[:l.conn.Headroom()], messageAck)
			l.mu.Unlock()
			err = l.conn.WriteBuffer(tunnel.OpBinary, b)
			l.mu.Lock()
		}
		if errors.Is(err, net.ErrClosed) {
			// Because of what the reader has come upon, and is about to tell.
			for l.err == nil {
				l.work.Wait()
			}
		}
		if err != nil {
			l.failLocked(lost(err))
			return
		}
	}
}

// appendAck appends a message's type and what has been received so far.
func (l *link) appendAck(b []byte, t messageType) []byte {
	l.ackSent = l.received.Load()
	l.ackDue = false
	return binary.BigEndian.AppendUint64(append(b, byte(t)), l.ackSent)
}

// How long an orderly end waits for the peer to have received everything, and
// then for the farewell to leave.
const (
	drainTimeout    = 5 * time.Second
	farewellTimeout = time.Second
)

// finish waits until the peer has acknowledged what has been written so far,
// says goodbye ahead of anything newer, and closes the connection. It does not
// wait for ever.
func (l *link) finish(code CloseCode, reason string) {
	expired := false
	timer := time.AfterFunc(drainTimeout, func() {
		l.mu.Lock()
		expired = true
		l.drained.Broadcast()
		l.mu.Unlock()
	})
	defer timer.Stop()
	l.mu.Lock()
	for to := l.ring.tail; l.err == nil && l.ring.acked < to && !expired; {
		l.drained.Wait()
	}
	l.farewell = appendClose(nil, code, reason)
	l.work.Signal()
	l.mu.Unlock()
	select {
	case <-l.done:
	case <-time.After(farewellTimeout):
		l.fail(errLinkClosed)
	}
}

// watch sends pings and notices silence.
func (l *link) watch() {
	timer := time.NewTimer(0) // the first ping at once: it measures the path
	defer timer.Stop()
	nextPing := time.Now()
	for {
		select {
		case <-l.done:
			return
		case <-l.nudge:
			nextPing = time.Now()
		case <-timer.C:
		}
		now := time.Now()
		if !now.Before(nextPing) {
			l.conn.Ping(binary.BigEndian.AppendUint64(nil, uint64(now.Sub(l.start))))
			nextPing = now.Add(jitter(l.cfg.pingInterval))
		}
		last := l.conn.LastRead()
		deadline := last.Add(l.cfg.silence)
		if by := l.probeBy.Load(); by != 0 {
			if l.answered(by) {
				l.probeBy.CompareAndSwap(by, 0)
			} else if probe := l.start.Add(time.Duration(by)); probe.Before(deadline) {
				deadline = probe
			}
		}
		if !now.Before(deadline) {
			l.fail(fmt.Errorf("%w: not a byte from the peer for %v", ErrLinkLost, now.Sub(last).Round(time.Millisecond)))
			return
		}
		timer.Reset(min(deadline.Sub(now), nextPing.Sub(now)))
	}
}

// probeTimeout is how long a probe waits for any byte from the peer.
const probeTimeout = 4 * time.Second

// probe asks the peer for a sign of life, and gives the link up when none
// comes within probeTimeout.
func (l *link) probe() {
	by := l.probeBy.Load()
	if by == 0 || l.answered(by) {
		l.probeBy.CompareAndSwap(by, int64(time.Since(l.start)+probeTimeout))
	}
	select {
	case l.nudge <- struct{}{}:
	default:
	}
}

// answered says that something has come since the probe that is due by then.
func (l *link) answered(by int64) bool {
	return l.conn.LastRead().After(l.start.Add(time.Duration(by) - probeTimeout))
}

func (l *link) pong(payload []byte) {
	if len(payload) != 8 {
		return
	}
	now, sent := time.Since(l.start), time.Duration(binary.BigEndian.Uint64(payload))
	if sent < 0 || sent >= now { // not a time that we have sent
		return
	}
	sample := int64(now - sent)
	if old := l.rtt.Load(); old != 0 {
		sample = old + (sample-old)/4
	}
	l.rtt.Store(sample)
}

// fail ends the link for the first reason that it is given.
func (l *link) fail(err error) {
	l.mu.Lock()
	l.failLocked(err)
	l.mu.Unlock()
}

func (l *link) failLocked(err error) {
	if l.err != nil {
		return
	}
	l.err = err
	close(l.done)
	l.ackTimer.Stop()
	l.space.Broadcast()
	l.work.Broadcast()
	l.drained.Broadcast()
	l.wg.Go(func() { l.hangUp(err) })
}

// hangUp closes the connection, politely where there is somebody to hear it.
func (l *link) hangUp(err error) {
	var closed *ClosedError
	var closeFrame *tunnel.CloseError
	var fault *tunnel.ProtocolError
	switch {
	case errors.Is(err, ErrProtocol):
		l.conn.Close(tunnel.StatusProtocolError, "")
	case errors.As(err, &closed), errors.Is(err, errFarewell), errors.As(err, &closeFrame), errors.As(err, &fault):
		l.conn.Close(tunnel.StatusNormal, "")
	default:
		l.conn.CloseNow()
	}
}

func (l *link) cause() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close ends the link at once and does not wait; wait does.
func (l *link) Close() error {
	l.fail(errLinkClosed)
	return nil
}

// wait returns when the link's goroutines have ended.
func (l *link) wait() { l.wg.Wait() }

// lost says what the loss of the connection means for the session.
func lost(err error) error {
	return fmt.Errorf("%w: %w", ErrLinkLost, err)
}

// cutShort tells a message that is too short from a connection that broke:
// only the former gives these errors bare.
func cutShort(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return protocolError("a message of the link cut short")
	}
	return lost(err)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
