package ws

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
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

// errClosed is the error of everything that comes after our own Close frame.
var errClosed = fmt.Errorf("websocket: closed: %w", net.ErrClosed)
