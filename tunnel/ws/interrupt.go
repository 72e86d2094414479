package ws

import "time"

// Interrupt unblocks Read, NextMessage and every write at once, those that are under way and those
// to come: they return errors. The connection is unusable afterwards, and stays open until Close or
// CloseNow, which are the same then. Any goroutine may call it, also during Close.
func (c *Conn) Interrupt() {
	c.controlMu.Lock()
	defer c.controlMu.Unlock()
	c.interrupted = true
	_ = c.nc.SetDeadline(time.Unix(1, 0)) // fails only when nc is closed, and nothing blocks on that
}

// StopReadingAfter lets reading go on for at most d from now; then NextMessage and Read return
// errors. It is for after a failed write, when only what the peer has sent before, such as its Close
// frame, is still of interest. Any goroutine may call it.
func (c *Conn) StopReadingAfter(d time.Duration) {
	c.controlMu.Lock()
	defer c.controlMu.Unlock()
	if !c.interrupted && !c.closeBegun {
		_ = c.nc.SetReadDeadline(time.Now().Add(d))
	}
}

// StopWritingAfter lets writing go on for at most d from now; then every write returns an error. It
// frees a writer that a peer who does not read has blocked. Any goroutine may call it.
func (c *Conn) StopWritingAfter(d time.Duration) {
	c.controlMu.Lock()
	defer c.controlMu.Unlock()
	if !c.interrupted && !c.closeBegun {
		_ = c.nc.SetWriteDeadline(time.Now().Add(d))
	}
}

// setCloseDeadline bounds reading and writing for Close, by d from now. It reports false, and does
// nothing, after Interrupt.
func (c *Conn) setCloseDeadline(d time.Duration) bool {
	c.controlMu.Lock()
	defer c.controlMu.Unlock()
	c.closeBegun = true
	if !c.interrupted {
		_ = c.nc.SetDeadline(time.Now().Add(d))
	}
	return !c.interrupted
}
