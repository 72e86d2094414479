package link

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Config has the bounds and times of a link. Every field must be set, except
// that zero means what is stated.
type Config struct {
	// SendBuffer bounds the bytes that are kept until the peer acknowledges them;
	// they occupy at most twice as much memory. At least 2 × the high watermark of the send queue (256 KiB).
	SendBuffer int
	// PingInterval is the time between pings, jittered by a quarter.
	PingInterval time.Duration
	// Silence is how long a connection may bring no byte at all before it counts
	// as dead.
	Silence time.Duration
	// Hold is how long a link without a connection waits for the next one. 0: the
	// link ends with its first connection, and keeps nothing for a resumption.
	Hold time.Duration
	// Resumable says that the link may be resumed from its first byte. If false,
	// a connection that is lost before SetResumable ends the link.
	Resumable bool
	// OnDown and OnUp are called, without locks, when the link has lost its
	// connection and waits for another, and when it has one again. They may be
	// nil and must not block.
	OnDown func(cause error)
	OnUp   func(Resumption)
}

// Link is a reliable byte stream in each direction over one connection at a
// time. It outlives its connections: when one is lost, the next one continues
// where the peer's end of it left off.
//
// Written bytes go into the send buffer, bulk data without being copied; they
// gather there while the previous message is being written, leave as one
// message, and stay until the peer has acknowledged them.
//
// Goroutines: one sends (sendLoop), or the callers of Write do; the caller of Read reads,
// and one for each connection watches for silence. Close ends them, Wait waits for them.
type Link struct {
	cfg      Config
	start    time.Time // of the clock that stamps pings
	headroom int       // bytes that the connection needs before a message

	// Guarded by mu.
	mu           sync.Mutex
	conn         *connection   // nil while the link is detached
	since        time.Time     // when conn was attached or detached
	migrating    bool          // conn was detached for another that is about to be attached
	down         chan struct{} // closed when conn is lost
	send         sendBuffer
	flight       flightLimit
	sending      bool   // a goroutine writes to conn
	priorityTo   uint64 // bytes queued before this offset have priority
	corkedTo     uint64 // if the queue ends at this offset, it waits for more to leave with
	ackSent      uint64 // what the peer has been told about received
	ackDue       bool   // an acknowledgement should leave soon
	closeMsg     []byte // the close message to send next, or nil
	hold         time.Duration
	resumable    bool   // the link may be resumed from now on
	noRetransmit bool   // nothing is ever retransmitted: no resumption was agreed on
	err          error  // why the link is over
	resumes      int    // how often the link was attached again
	replayed     uint64 // bytes that were sent a second time
	lostBy       error  // why the last connection was lost
	last         Resumption
	ackTimer     *time.Timer
	holdTimer    *time.Timer // ends a detached link after hold

	space    broadcast // the send queue may have room, or err is set
	work     sync.Cond // there may be something to send, or err is set
	drained  sync.Cond // more is acknowledged, or conn has changed, or err is set
	attached sync.Cond // a connection was attached, or err is set

	unyieldedSend int // bytes since the sending goroutine yielded; only its own

	// Used only by the goroutine that calls Read.
	current   *connection // the one that Read reads
	unyielded int         // bytes since the last yield

	received  atomic.Uint64 // payload bytes that Read has returned; written under mu
	rtt       atomic.Int64  // smoothed, nanoseconds; 0 is unknown
	frameSize atomic.Int64  // flight.messageSize()

	done chan struct{} // closed when err is set
	wg   sync.WaitGroup
}

// Why a link that was closed here is over.
var (
	errClosed     = errors.New("the link was closed here")
	errCloseSent  = fmt.Errorf("%w after a close message", errClosed)
	errSuperseded = errors.New("another connection has taken over")
)

// ErrLost is wrapped by the error of a link whose connection was lost without a
// close message from the peer.
var ErrLost = errors.New("the link was lost")

// SetResumable says that the session has begun: from now on the link survives
// the loss of its connection.
func (l *Link) SetResumable() {
	l.mu.Lock()
	l.resumable = true
	l.mu.Unlock()
}

// CanResume reports whether the link lives and may outlive its connection.
func (l *Link) CanResume() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hold > 0 && l.err == nil
}

// Down is closed when the present connection is lost. While there is none, it
// is closed.
func (l *Link) Down() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}

// Conn returns the present connection, or nil while the link is detached.
func (l *Link) Conn() Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return nil
	}
	return l.conn.conn
}

// InterruptedSince reports whether the link was detached, or changed its
// connection, at some moment after t, and still lives.
func (l *Link) InterruptedSince(t time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err == nil && (l.conn == nil || l.since.After(t))
}

// Err returns why the link is over, or nil while it lives.
func (l *Link) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Done is closed when the link is over.
func (l *Link) Done() <-chan struct{} { return l.done }

// Wait returns when the link's goroutines have ended. It is for after the end,
// and when Read is not called any more.
func (l *Link) Wait() { l.wg.Wait() }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
