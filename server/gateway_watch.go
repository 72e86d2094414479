package server

import (
	"math/rand/v2"
	"time"

	"adit/tunnel"
	"adit/tunnel/ws"
)

// watch is the time that passes over a client's connection: its pings, how
// long it may be idle, and a look whether it is still there. One timer does it
// all. Times are nanoseconds since
// clockBase.
type watch struct {
	c              *clientEnd
	interval, pong int64
	idle           int64
	timer          *time.Timer

	pinged   int64 // when the last ping was sent
	awaiting bool  // nothing has come since that ping
}

// watch starts the pings and timeouts of the route, for as long as the relay
// goes on.
func (c *clientEnd) watch() {
	w := &watch{c: c, interval: int64(c.route.PingInterval), pong: int64(c.route.PongTimeout), idle: int64(c.route.IdleTimeout)}
	if w.interval > 0 {
		// Clients that came together need not be pinged together.
		w.interval -= rand.Int64N(w.interval/8 + 1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w.timer = time.AfterFunc(w.next(clock()), w.tick)
	c.timers = append(c.timers, w.timer)
}

// tick does what is due and sets the timer for what comes next.
func (w *watch) tick() {
	c, now := w.c, clock()
	if p, ok := tunnel.PathOf(c.conn.NetConn()); ok && p.Gone {
		// The reader would know, if it did not wait for the backend.
		c.lost("the connection was reset")
		return
	}
	if w.idle > 0 && now-w.lastPayload() >= w.idle {
		c.cut(ws.StatusGoingAway, "idle")
		return
	}
	if w.awaiting && w.heard() > w.pinged {
		w.awaiting = false
	}
	switch {
	case w.interval <= 0:
	case w.awaiting && w.pong > 0 && now-w.pinged >= w.pong:
		if !w.excused() {
			c.cut(ws.StatusInternalError, "no answer to a ping")
			return
		}
		w.pinged = now // it has as long again; the ping is still on its way
	case !w.awaiting && now-w.lastSilence() >= w.interval:
		// Pings that cannot even be queued say that the writer is blocked,
		// and excused knows what to think of that.
		_ = c.conn.Ping(nil)
		w.pinged, w.awaiting = now, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		w.timer.Reset(w.next(now))
	}
}

// next is how long there is nothing to do.
func (w *watch) next(now int64) time.Duration {
	wait := int64(DefaultPingInterval)
	if w.idle > 0 {
		wait = min(wait, w.idle-(now-w.lastPayload()))
	}
	switch {
	case w.interval <= 0:
	case !w.awaiting:
		wait = min(wait, w.interval-(now-w.lastSilence()))
	case w.pong > 0:
		wait = min(wait, w.pong-(now-w.pinged))
	default:
		wait = min(wait, w.interval)
	}
	return max(time.Duration(wait), time.Millisecond)
}

// heard is when the client last sent anything at all.
func (w *watch) heard() int64 { return int64(w.c.conn.LastRead().Sub(clockBase)) }

// lastPayload is when payload last went in either direction.
func (w *watch) lastPayload() int64 { return max(w.c.received.Load(), w.c.sent.Load()) }

// lastSilence is when the direction fell silent that has been so for longer.
// Both count: a proxy between may wait for either.
func (w *watch) lastSilence() int64 { return min(w.heard(), max(w.c.sent.Load(), w.pinged)) }

// excused reports whether there is another reason than the client's being gone
// for its not having answered the last ping.
func (w *watch) excused() bool {
	c := w.c
	if p, ok := tunnel.PathOf(c.conn.NetConn()); ok {
		if p.Pending() { // it may not have got the ping yet
			return p.Alive(time.Duration(w.pong))
		}
	} else if c.writing.Load() {
		return true // TCP will end that if nobody is there
	}
	// The answer may lie there unread while the backend takes no data.
	from := c.readFrom.Load()
	return from == 0 || from > w.pinged
}
