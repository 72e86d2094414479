package link

import "time"

// New returns a link on conn, on which the peers have exchanged their hello
// messages. The link owns conn.
func New(conn Conn, cfg Config) *Link {
	l := &Link{
		cfg: cfg, hold: cfg.Hold, resumable: cfg.Resumable, noRetransmit: cfg.Hold == 0,
		start: time.Now(), headroom: conn.Headroom(), done: make(chan struct{}),
	}
	l.work.L, l.drained.L, l.attached.L = &l.mu, &l.mu, &l.mu
	l.ackTimer = stopped(l.ackLate)
	l.holdTimer = stopped(l.holdExpired)
	l.mu.Lock()
	l.attachLocked(newConnection(conn, 0))
	l.mu.Unlock()
	l.wg.Go(l.sendLoop)
	return l
}

// stopped returns a timer that calls f once it has been reset.
func stopped(f func()) *time.Timer {
	t := time.AfterFunc(time.Hour, f)
	t.Stop()
	return t
}
