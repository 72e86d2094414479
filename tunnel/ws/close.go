package ws

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"adit/tunnel"
)

// StatusCode says why a connection was closed, RFC 6455 section 7.4.
type StatusCode uint16

// The registered codes that a program of ours sends or looks for.
const (
	StatusNormal         StatusCode = 1000
	StatusGoingAway      StatusCode = 1001
	StatusProtocolError  StatusCode = 1002
	StatusNoStatus       StatusCode = 1005 // never sent: the Close frame was empty
	StatusInvalidPayload StatusCode = 1007
	StatusPolicy         StatusCode = 1008
	StatusInternalError  StatusCode = 1011
)

// sendable reports whether a Close frame may carry the code: those defined or
// registered for it, and 3000 to 4999 for libraries and applications.
func (s StatusCode) sendable() bool {
	switch {
	case s >= 1000 && s <= 1003, s >= 1007 && s <= 1014, s >= 3000 && s <= 4999:
		return true
	}
	return false
}

// CloseError reports the peer's Close frame. It has been answered with the
// same code.
type CloseError struct {
	Code   StatusCode // StatusNoStatus when the frame had none
	Reason string     // valid UTF-8, at most 123 bytes, as the peer sent it
}

func (e *CloseError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("websocket: peer closed with code %d", e.Code)
	}
	return fmt.Sprintf("websocket: peer closed with code %d: %q", e.Code, e.Reason)
}

// ProtocolError reports that the peer broke the protocol.
// A Close frame with Code and Reason has been queued for it.
type ProtocolError struct {
	Code   StatusCode
	Reason string
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("websocket: failed the connection with code %d: %s", e.Code, e.Reason)
}

// fail ends reading because of what the peer sent (RFC 6455 section 7.1.7).
// readMu is held.
func (c *Conn) fail(code StatusCode, reason string) error {
	c.queueClose(closePayload(code, reason))
	c.readErr = &ProtocolError{code, reason}
	return c.readErr
}

// peerClosed answers the peer's Close frame; nothing after it is read as
// frames. readMu is held.
func (c *Conn) peerClosed(p []byte) error {
	if len(p) == 0 {
		c.queueClose(nil)
		c.readErr = &CloseError{Code: StatusNoStatus}
		return c.readErr
	}
	if len(p) == 1 {
		return c.fail(StatusProtocolError, "close payload of one byte")
	}
	code := StatusCode(binary.BigEndian.Uint16(p))
	if !code.sendable() {
		return c.fail(StatusProtocolError, "bad close code")
	}
	if !utf8.Valid(p[2:]) {
		return c.fail(StatusInvalidPayload, "close reason is not valid UTF-8")
	}
	c.queueClose(p[:2])
	c.readErr = &CloseError{Code: code, Reason: string(p[2:])}
	return c.readErr
}

// closePayload makes the payload of a Close frame: empty when the code is
// StatusNoStatus or another that may not be sent.
func closePayload(code StatusCode, reason string) []byte {
	if !code.sendable() {
		return nil
	}
	p := binary.BigEndian.AppendUint16(nil, uint16(code))
	p = append(p, strings.ToValidUTF8(reason, "\uFFFD")...)
	if len(p) > maxControlPayload {
		p = p[:maxControlPayload]
		p = p[:wholeRunes(p)]
	}
	return p
}

// Close does the closing handshake and ends the connection. Unless our Close
// frame has gone already (in answer to the peer's, or to a fault of it), one
// with code and reason is sent, behind the message that is being written; then
// the peer's is awaited, and what comes before it is discarded. All this is
// bounded by CloseTimeout. Then our half of the connection is closed and the
// rest of the peer's read and discarded until it ends too, for up to another
// CloseTimeout: closing a socket with unread bytes would send a reset, and
// that could overtake our last frames.
//
// A code that may not be sent, StatusNoStatus for one, makes the frame empty.
// reason is cut to 123 bytes. The error is nil when the peer's Close frame has
// arrived, or our own has told it of its fault. Later calls wait for the first
// and return its result. Writers and readers that are blocked meanwhile are
// released by a timeout at the latest.
func (c *Conn) Close(code StatusCode, reason string) error {
	c.closeOnce.Do(func() { c.closeErr = c.close(code, reason) })
	return c.closeErr
}

func (c *Conn) close(code StatusCode, reason string) error {
	timeout := c.opts.CloseTimeout
	// The deadlines below do the work. This catches a connection that has
	// none, and the alert of TLS, for which crypto/tls allows itself 5 s.
	last := time.AfterFunc(2*timeout+timeout/8, func() { _ = tunnel.CloseNow(c.nc) })
	defer last.Stop()

	// The deadline frees a writer that is stuck and a reader that waits.
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
		// Of two well-behaved ends the server closes TCP first (RFC 6455
		// section 7.1.1), so that TIME_WAIT stays off the client's ports.
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

// awaitClose reads up to the peer's Close frame, or to a fault, which is as
// final. It reports whether it was a Close frame. readMu is held.
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

// discard reads until the connection ends or its deadline comes. readMu is
// held.
func (c *Conn) discard() {
	for {
		if _, err := c.receive(c.buf); err != nil {
			return
		}
	}
}

// CloseNow ends the connection at once, without a Close frame and without
// waiting for the peer. Blocked readers and writers return with errors. It
// may be called at any time, also during and after Close.
func (c *Conn) CloseNow() error {
	return c.release(func() error { return tunnel.CloseNow(c.nc) })
}

// release calls closeConn, which closes nc, and waits for the flusher.
func (c *Conn) release(closeConn func() error) error {
	c.controlMu.Lock()
	// From here on nothing is queued, so no flusher starts.
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
