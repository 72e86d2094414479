package ws

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"adit/tunnel"
)

// SendClose queues our Close frame after the messages that have been written, and does not wait. It does
// nothing if one has been queued already: in answer to the peer's, or because the peer broke the
// protocol. Nothing can be written after it. Reading goes on: the peer may send data until its own Close
// frame, which NextMessage, Read and ReadStream report as a *CloseError. A WebSocket has nothing closer
// to TCP's half-close. Close must still be called. code and reason are as for Close.
func (c *Conn) SendClose(code StatusCode, reason string) {
	c.queueClose(closePayload(code, reason))
}

// Close does the closing handshake and closes the connection.
//
// It sends a Close frame with code and reason after the message that is being written, unless our Close
// frame has been sent already, discards data until the peer's Close frame arrives, and does both within
// CloseTimeout. Then it closes our direction of the connection and discards the peer's until that ends,
// too, for up to another CloseTimeout: closing a socket with unread bytes would send a reset, which could
// overtake our last frames.
//
// The Close frame is empty if code is StatusNoStatus or another that may not be sent. reason is cut to 123
// bytes. The error is nil if the peer's Close frame has arrived, or if our own has told the peer that it
// broke the protocol. Later calls wait for the first and return its result. Readers and writers that are
// blocked return after a timeout at the latest.
func (c *Conn) Close(code StatusCode, reason string) error {
	c.closeOnce.Do(func() { c.closeErr = c.close(code, reason) })
	return c.closeErr
}

func (c *Conn) close(code StatusCode, reason string) error {
	timeout := c.opts.CloseTimeout
	// The deadlines below bound everything but two cases: a net.Conn without deadlines, and the alert
	// of TLS, for which crypto/tls sets a deadline of 5 s.
	last := time.AfterFunc(2*timeout+timeout/8, func() { _ = tunnel.CloseNow(c.nc) })
	defer last.Stop()

	// The deadline unblocks a writer that holds writeMu and a reader that holds readMu.
	if !c.setCloseDeadline(timeout) {
		return c.CloseNow()
	}
	c.queueClose(closePayload(code, reason))
	c.writeMu.Lock()
	_, err := c.writeControl()
	c.writeMu.Unlock()

	c.readMu.Lock()
	defer c.readMu.Unlock()
	answered := false
	if err == nil {
		answered, err = c.awaitClose()
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		c.setCloseDeadline(timeout)
		// The server closes TCP first (RFC 6455, section 7.1.1), so that TIME_WAIT does not use up
		// the client's ports.
		if !answered || !c.client {
			tunnel.CloseWrite(c.nc)
		}
		c.discard()
	}
	_ = c.release(c.nc.Close)
	if c.readErr == nil {
		c.readErr = errClosed
	}
	var closed *CloseError
	if err != nil && !errors.As(c.readErr, &closed) {
		return fmt.Errorf("websocket: closing handshake: %w", err)
	}
	return nil
}

// awaitClose reads until the peer's Close frame, or until the peer breaks the protocol, which ends the
// connection as well. It reports whether there was a Close frame. readMu is held.
func (c *Conn) awaitClose() (answered bool, err error) {
	for {
		_, err := c.nextMessage()
		if err == nil {
			continue
		}
		var closed *CloseError
		var fault *ProtocolError
		switch {
		case errors.As(err, &closed):
			return true, nil
		case errors.As(err, &fault):
			return false, nil
		}
		return false, err
	}
}

// discard reads until the connection ends or its deadline passes. readMu is held.
func (c *Conn) discard() {
	for {
		if _, err := c.receive(c.buf); err != nil {
			return
		}
	}
}

// CloseNow closes the connection at once, without a Close frame and without waiting for the peer. Blocked
// readers and writers return errors. It may be called at any time, also during and after Close.
func (c *Conn) CloseNow() error {
	return c.release(func() error { return tunnel.CloseNow(c.nc) })
}

// release calls closeConn, which closes nc, and waits for the flusher goroutine.
func (c *Conn) release(closeConn func() error) error {
	c.controlMu.Lock()
	// From here on nothing is queued, and no flusher goroutine starts.
	c.stuck = true
	c.room.Broadcast()
	c.controlMu.Unlock()
	err := closeConn()
	c.flusher.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("websocket: closing the connection: %w", err)
	}
	return nil
}
