package server

import (
	"math/rand/v2"
	"time"

	"adit/tunnel"
	"adit/tunnel/ws"
)

// watch sends a client pings, limits how long its connection may be idle, and
// checks that it still exists, with one timer. Times are nanoseconds since
// clockBase, and durations nanoseconds.
type watch struct {
	c                    *clientEnd
	interval, pong, idle int64
	timer                *time.Timer

	pinged   int64 // when the last ping was sent
	awaiting bool  // nothing has been received since that ping
}

// startWatch starts the watch of a connection, which ends with the relay.
func startWatch(c *clientEnd) {
	w := &watch{c: c, interval: int64(c.settings.PingInterval), pong: int64(c.settings.PongTimeout), idle: int64(c.settings.IdleTimeout)}
	if w.interval > 0 {
		// Clients that connected together are not pinged together.
		w.interval -= rand.Int64N(w.interval/8 + 1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w.timer = time.AfterFunc(w.next(clock()), w.tick)
	c.timers = append(c.timers, w.timer)
}

// tick does what is due and sets the timer for the next time.
func (w *watch) tick() {
	c, now := w.c, clock()
	if p, ok := tunnel.PathOf(c.conn.NetConn()); ok && p.Gone {
		// The reader has not noticed: it may be waiting for the backend.
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
		w.pinged = now // the ping may still be in flight: wait as long again
	case !w.awaiting && now-w.lastSilence() >= w.interval:
		// A ping that cannot be queued means a blocked writer, which excused
		// takes into account.
		_ = c.conn.Ping(nil)
		w.pinged, w.awaiting = now, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		w.timer.Reset(w.next(now))
	}
}

// next returns how long nothing is due.
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

// heard is when any byte of the client was last received.
func (w *watch) heard() int64 { return int64(w.c.conn.LastRead().Sub(clockBase)) }

// lastPayload is when payload was last sent or received.
func (w *watch) lastPayload() int64 { return max(w.c.received.Load(), w.c.sent.Load()) }

// lastSilence is when the direction that has been silent for longer fell silent.
// Both count, because a proxy in between may time out either.
func (w *watch) lastSilence() int64 { return min(w.heard(), max(w.c.sent.Load(), w.pinged)) }

// excused reports whether the last ping may be unanswered although the client is
// there.
func (w *watch) excused() bool {
	c := w.c
	if p, ok := tunnel.PathOf(c.conn.NetConn()); ok {
		if p.Pending() { // the ping may not have reached the client yet
			return p.Alive(time.Duration(w.pong))
		}
	} else if c.writing.Load() {
		return true // TCP ends the write if the client is gone
	}
	// The answer may be unread while the backend takes no data.
	from := c.readFrom.Load()
	return from == 0 || from > w.pinged
}
