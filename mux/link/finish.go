package link

import "time"

// How long Finish waits for the peer to have received everything, and then for
// the close message to leave.
const (
	DrainTimeout = 5 * time.Second
	CloseTimeout = time.Second
)

// Finish waits until the peer has acknowledged what was written so far, sends a
// close message ahead of anything newer, and closes the connection. It takes
// DrainTimeout and CloseTimeout at most, and does not wait for a link that is
// detached unless a migration is under way.
func (l *Link) Finish(code CloseCode, reason string) {
	expired := false
	timer := time.AfterFunc(DrainTimeout, func() {
		l.mu.Lock()
		expired = true
		l.drained.Broadcast()
		l.mu.Unlock()
	})
	defer timer.Stop()
	l.mu.Lock()
	l.corkedTo = 0
	l.work.Signal()
	for to := l.send.tail; l.err == nil && !expired && (l.migrating || l.conn != nil && l.deliveredLocked() < to); {
		l.drained.Wait()
	}
	if l.conn == nil {
		l.failLocked(errClosed)
	}
	l.closeMsg = AppendClose(nil, code, reason)
	l.work.Signal()
	l.mu.Unlock()
	select {
	case <-l.done:
	case <-time.After(CloseTimeout):
		l.Fail(errClosed)
	}
}
