package ws

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A StatusCode says why a connection was closed (RFC 6455, section 7.4).
type StatusCode uint16

// The registered codes that adit sends or handles.
const (
	StatusNormal         StatusCode = 1000
	StatusGoingAway      StatusCode = 1001
	StatusProtocolError  StatusCode = 1002
	StatusNoStatus       StatusCode = 1005 // never sent: the Close frame was empty
	StatusInvalidPayload StatusCode = 1007
	StatusPolicy         StatusCode = 1008
	StatusInternalError  StatusCode = 1011
)

// sendable reports whether a Close frame may carry the code: the registered ones, and 3000 to 4999, which
// are for libraries and applications.
func (s StatusCode) sendable() bool {
	switch {
	case s >= 1000 && s <= 1003, s >= 1007 && s <= 1014, s >= 3000 && s <= 4999:
		return true
	}
	return false
}

// A CloseError reports the peer's Close frame. It has been answered with the same code.
type CloseError struct {
	Code   StatusCode // StatusNoStatus if the frame had none
	Reason string     // valid UTF-8, at most 123 bytes, as the peer sent it
}

func (e *CloseError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("websocket: peer closed with code %d", e.Code)
	}
	return fmt.Sprintf("websocket: peer closed with code %d: %q", e.Code, e.Reason)
}

// A ProtocolError reports that the peer broke the protocol. A Close frame with Code and Reason has been
// queued.
type ProtocolError struct {
	Code   StatusCode
	Reason string
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("websocket: failed the connection with code %d: %s", e.Code, e.Reason)
}

// fail fails the connection because the peer broke the protocol (RFC 6455, section 7.1.7). readMu is held.
func (c *Conn) fail(code StatusCode, reason string) error {
	c.queueClose(closePayload(code, reason))
	c.readErr = &ProtocolError{code, reason}
	return c.readErr
}

// peerClosed handles the payload of the peer's Close frame, and answers it. Nothing after it is read as
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

// closePayload returns the payload of a Close frame: nothing for StatusNoStatus and other codes that may
// not be sent.
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
