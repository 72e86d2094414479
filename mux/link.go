package mux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"adit/tunnel"
	"adit/tunnel/ws"
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
	ackEvery     = 256 << 10             // acknowledge at the latest after so many bytes …
	ackDelay     = 25 * time.Millisecond // … or so long after the first of them (see writeSoon, too),
	bulkAfter    = 8 << 10               // or when it was so many …
	bulkAckDelay = 1 * time.Millisecond  // … so long after that
)

// linkConfig has the bounds and times of a link; all are set.
type linkConfig struct {
	ring         int           // bytes kept until the peer acknowledges them
	pingInterval time.Duration // jittered by a quarter
	silence      time.Duration // a connection silent for so long is dead
	hold         time.Duration // how long a link without a connection waits for one; 0: not at all
	settled      bool          // it may be resumed from the beginning

	// Called without locks when the link has lost its connection and waits for
	// another, and when it has one again; may be nil.
	onDown func(cause error)
	onUp   func(Resumption)
}

// link is a reliable byte stream, each way, over one WebSocket connection at a
// time. It is the net.Conn, so to say, that yamux runs on, and outlives its
// connections: when one is lost, another takes over where the peer's end of it
// left off.
//
// What is written goes into the ring, large pieces without being copied: there
// it is gathered while the previous message is being written, leaves as one
// message, and stays until the peer has acknowledged it. One goroutine writes (flush),
// the one that calls Read reads, and one for each connection watches for
// silence.
type link struct {
	cfg      linkConfig
	start    time.Time // of the clock that stamps pings
	headroom int       // that a WebSocket frame needs

	mu       sync.Mutex
	carrier  *carrier      // nil while the link waits for a connection
	since    time.Time     // when the carrier came, or went
	relieved bool          // it went because another is about to come
	down     chan struct{} // closed when the carrier goes
	ring     ring
	pace     pace
	urgentTo uint64    // what is queued before this number is waited for
	soonTo   uint64    // what is queued waits for more to leave with, when it ends here
	ackSent  uint64    // what the peer has been told about received
	ackDue   bool      // tell it soon
	farewell []byte    // a close message to send next, or nil
	settled  bool      // the session has begun, and can be resumed from now on
	unkept   bool      // nothing will be sent again: no resumption has been agreed on
	err      error     // why the link is over
	space    sync.Cond // the ring may have room, or err is set
	work     sync.Cond // there may be something to write, or err is set
	drained  sync.Cond // more is acknowledged, or the carrier has gone, or err is set
	attached sync.Cond // a carrier has come, or err is set
	resumes  int
	replayed uint64 // bytes that were sent a second time
	lostBy   error
	last     Resumption

	ackTimer  *time.Timer
	holdTimer *time.Timer           // ends the link when it has waited for long enough
	current   *carrier              // the one that Read reads; only Read's
	unyielded int                   // bytes that Read has moved; only Read's
	untold    atomic.Pointer[inbox] // has a part of a frame that its reader may not know of
	received  atomic.Uint64         // payload bytes that Read has given out; changes under mu
	rtt       atomic.Int64          // smoothed, nanoseconds; 0 is unknown
	piece     atomic.Int64          // pace.piece

	done chan struct{} // closed when err is set
	wg   sync.WaitGroup
}

// newLink takes over conn, whose hello messages have been exchanged.
func newLink(conn *ws.Conn, cfg linkConfig) *link {
	l := &link{cfg: cfg, unkept: cfg.hold == 0, start: time.Now(), headroom: conn.Headroom(), done: make(chan struct{})}
	l.space.L, l.work.L, l.drained.L, l.attached.L = &l.mu, &l.mu, &l.mu, &l.mu
	l.settled = cfg.settled
	l.ackTimer = stopped(l.ackLater)
	l.holdTimer = stopped(l.waitedTooLong)
	l.mu.Lock()
	l.carryLocked(newCarrier(conn, 0))
	l.mu.Unlock()
	l.wg.Go(l.flush)
	return l
}

func stopped(f func()) *time.Timer {
	t := time.AfterFunc(time.Hour, f)
	t.Stop()
	return t
}

func (l *link) settle() {
	l.mu.Lock()
	l.settled = true
	l.mu.Unlock()
}

// Read gives the peer's bytes, and waits while there is no connection. Only
// one goroutine may call it.
func (l *link) Read(p []byte) (int, error) {
	for {
		if closed(l.done) { // the closing handshake still reads
			return 0, l.cause()
		}
		c := l.current
		if c == nil || closed(c.gone) {
			l.tellUntold()
			if c = l.await(); c == nil {
				return 0, l.cause()
			}
			l.current = c
		}
		n, err := c.read(l, p)
		if n = l.took(c, p[:n]); n > 0 {
			yieldAfter(&l.unyielded, n)
			return n, nil
		}
		if err != nil {
			l.readFailed(c, err)
		}
	}
}

// await gives the next connection to read from, or nil when the link is over.
func (l *link) await() *carrier {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.carrier == nil && l.err == nil {
		l.attached.Wait()
	}
	if l.err != nil {
		return nil
	}
	return l.carrier
}

// took counts the bytes that were read from c, and gives how many of them are
// news, which it moves to the front. What comes by a connection that another
// has relieved does not count: it comes once more.
func (l *link) took(c *carrier, p []byte) int {
	if len(p) == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.carrier != c {
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

// arrivedLocked is what may be acknowledged. Where an earlier connection has
// brought more than this one yet, that is less than received: the peer counts
// from where it has begun again.
func (l *link) arrivedLocked() uint64 {
	if l.carrier == nil {
		return l.received.Load()
	}
	return l.received.Load() - l.carrier.skip
}

// readFailed ends the link where its peer has ended the session, or has broken
// the protocol; else only c is lost.
func (l *link) readFailed(c *carrier, err error) {
	var goodbye *ClosedError
	if !errors.Is(err, ErrProtocol) && !errors.As(err, &goodbye) {
		l.lose(c, lost(err))
		return
	}
	l.mu.Lock()
	if l.carrier == c {
		l.failLocked(err)
	}
	l.mu.Unlock()
}

// acknowledged frees what the peer has received, as it says by way of c.
func (l *link) acknowledged(c *carrier, to uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.carrier != c {
		return nil
	}
	l.pace.acked(to, l.ring.unsent() > 0, time.Now())
	l.piece.Store(int64(l.pace.piece()))
	l.work.Signal()
	l.drained.Broadcast()
	if to <= l.ring.acked {
		return nil
	}
	if to > l.ring.sent {
		return protocolError("acknowledgement of byte %d, %d were sent", to, l.ring.sent)
	}
	full := l.ring.held() >= l.cfg.ring
	l.ring.acknowledge(to)
	if full {
		l.space.Broadcast()
	}
	return nil
}

// delivered is how much the peer is known to have received. mu is held.
func (l *link) delivered() uint64 {
	if l.unkept {
		return l.pace.ackedTo
	}
	return l.ring.acked
}

func (l *link) ackLater() {
	l.mu.Lock()
	if l.arrivedLocked() != l.ackSent {
		l.ackDue = true
	}
	l.soonTo = 0 // it has waited for long enough
	l.work.Signal()
	l.mu.Unlock()
}

// write queues b, and blocks while the queue is full or nobody takes from it.
// Only one goroutine may call it, or writeSoon, or lend, at a time.
func (l *link) write(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.queue(b)
	if len(b) <= urgent {
		l.urgentTo = l.ring.tail
	}
	l.work.Signal()
	return err
}

// writeSoon is write for what leaves together with what is written next, or
// with the next acknowledgement, or after ackDelay.
func (l *link) writeSoon(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	alone := l.ring.unsent() == 0 || l.ring.tail == l.soonTo
	err := l.queue(b)
	if alone {
		l.soonTo = l.ring.tail
		if l.ackDue || l.arrivedLocked() == l.ackSent { // else the timer runs
			l.ackTimer.Reset(ackDelay)
		}
	}
	return err
}

// queue appends b to what is to be sent. mu is held.
func (l *link) queue(b []byte) error {
	for len(b) > 0 {
		if err := l.awaitQueue(sendQueue); err != nil {
			return err
		}
		n := min(len(b), sendQueue-l.ring.unsent(), l.cfg.ring-l.ring.held())
		b = b[l.ring.append(b[:n]):]
	}
	return nil
}

// lend is write for b.Bytes[from:to], without a copy: the link frees b.
func (l *link) lend(b *tunnel.Buffer, from, to int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.awaitQueue(sendQueue); err != nil {
		b.Free()
		return err
	}
	l.ring.lend(b, from, to)
	l.work.Signal()
	return nil
}

// awaitLull waits until little is queued. Who has much to write does so before:
// then those who have little find space, and few bytes ahead of theirs.
func (l *link) awaitLull() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.awaitQueue(l.pace.piece() / 2)
}

// awaitQueue waits until fewer than so many bytes wait to be sent, and there is
// room for more. mu is held.
func (l *link) awaitQueue(most int) error {
	for l.err == nil && (l.carrier == nil || l.ring.unsent() >= most || l.ring.held() >= l.cfg.ring) {
		l.soonTo = 0 // there is more
		l.work.Signal()
		l.space.Wait()
	}
	return l.err
}

// flush writes what is queued, as fast as the connection takes it: everything
// that gathered while one message was being written leaves as the next one.
func (l *link) flush() {
	small := make([]byte, l.headroom+1+ackSize+MaxReason)
	unyielded := 0
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		c := l.awaitWork()
		if c == nil {
			return
		}
		var err error
		switch {
		case l.farewell != nil:
			b := append(small[:l.headroom], l.farewell...)
			l.mu.Unlock()
			c.conn.WriteBuffer(ws.OpBinary, b)
			l.mu.Lock()
			l.failLocked(errFarewell)
			return
		case l.sendable():
			span := l.ring.take(l.pace.piece() + streamHeadroom)
			l.pace.sent(l.ring.sent, time.Now())
			head := span.head(l.headroom + 1 + ackSize)
			l.appendAck(head[l.headroom:l.headroom], messageData)
			l.space.Broadcast()
			l.mu.Unlock()
			err = c.conn.WriteBuffer(ws.OpBinary, span.bytes())
			yieldAfter(&unyielded, len(span.bytes()))
			l.mu.Lock()
			l.ring.release(span)
			if l.unkept && err == nil && l.ring.acked < l.ring.sent {
				l.ring.acknowledge(l.ring.sent)
				l.space.Broadcast()
			}
		default:
			b := l.appendAck(small[:l.headroom], messageAck)
			l.mu.Unlock()
			err = c.conn.WriteBuffer(ws.OpBinary, b)
			l.mu.Lock()
		}
		if err != nil && l.carrier == c { // else who reads shall not wait for the last words of it
			c.writeFailed()
		}
	}
}

// awaitWork waits until there is something to write and a connection to write
// it to, and gives that, or nil when the link is over.
func (l *link) awaitWork() *carrier {
	for l.err == nil {
		if c := l.carrier; c != nil && !c.mute && (l.sendable() || l.ackDue || l.farewell != nil) {
			return c
		}
		l.work.Wait()
	}
	return nil
}

// frame is how many bytes of data a frame should have at most, for the next one
// not to wait for long.
func (l *link) frame() int { return int(l.piece.Load()) }

// sendable says that there are bytes that may leave now.
func (l *link) sendable() bool {
	waits := l.ring.tail == l.soonTo && !l.ackDue
	return l.ring.unsent() > 0 && !waits && !l.pace.full(l.ring.sent < l.urgentTo)
}

// appendAck appends a message's type and what has been received so far.
func (l *link) appendAck(b []byte, t messageType) []byte {
	l.ackSent = l.arrivedLocked()
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
// wait for ever, and not at all where there is no connection nor one about to come.
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
	l.soonTo = 0
	l.work.Signal()
	for to := l.ring.tail; l.err == nil && !expired && (l.relieved || l.carrier != nil && l.delivered() < to); {
		l.drained.Wait()
	}
	if l.carrier == nil {
		l.failLocked(errLinkClosed)
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
	l.holdTimer.Stop()
	l.space.Broadcast()
	l.work.Broadcast()
	l.drained.Broadcast()
	l.attached.Broadcast()
	if c := l.carrier; c != nil {
		l.dropLocked(c, err)
	} else if !closed(l.down) { // fenced, and the next connection has not come
		close(l.down)
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

// wait returns when the link's goroutines have ended. Nobody reads any more.
func (l *link) wait() {
	l.wg.Wait()
}

// yieldBytes is how many bytes a goroutine moves before it lets others run.
const yieldBytes = 256 << 10

// yieldAfter counts n bytes moved by the calling goroutine and yields after each
// yieldBytes: a goroutine that never waits would otherwise run for as long as the
// scheduler lets it, and acknowledgements and small frames would wait for it.
func yieldAfter(moved *int, n int) {
	if *moved += n; *moved >= yieldBytes {
		*moved = 0
		runtime.Gosched()
	}
}

// lost says what the loss of the connection means for the session.
func lost(err error) error {
	return fmt.Errorf("%w: %w", ErrLinkLost, err)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// tellLater says that the reader of in need not get to know of the part of a frame
// that has come: the rest is there, too, or tellUntold is called before it is waited
// for. Only the one who calls Read may call it.
func (l *link) tellLater(in *inbox) bool {
	if c := l.current; !c.tellsWait {
		return c.conn.Buffered()
	}
	l.untold.Store(in)
	return true
}

// tellUntold is called by those who read the connection before they wait for it.
func (l *link) tellUntold() {
	if in := l.untold.Swap(nil); in != nil {
		in.tellNow()
	}
}
