package link

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MessageType is the first byte of each message of a connection. A message of
// an unknown type is skipped whole: a later version may send some.
type MessageType byte

const (
	// MessageHello is the first message each way: version and parameters. Package
	// mux sends and reads it. A second one is a breach of the protocol.
	MessageHello MessageType = 1
	// MessageData carries bytes of the link: type, received (8 bytes, big-endian),
	// then one byte or more up to the end of the message.
	MessageData MessageType = 2
	// MessageAck is an acknowledgement alone: type, received (8 bytes).
	MessageAck MessageType = 3
	// MessageClose says that the session is over: type, code (1 byte), reason
	// (UTF-8, up to MaxReason bytes). Nothing follows it.
	MessageClose MessageType = 4
)

// AckSize is the length of an acknowledgement: the number of bytes received.
const AckSize = 8

// MaxReason is the most bytes of a reason for people that a message carries.
const MaxReason = 512

// ErrProtocol is wrapped by every error that means that the peer broke the
// protocol.
var ErrProtocol = errors.New("protocol error")

// ProtocolError returns an error that wraps ErrProtocol.
func ProtocolError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// CloseCode says why a session was closed.
type CloseCode byte

// The codes of a session's end. A peer may send others, of a later version.
const (
	CloseDone     CloseCode = 0 // nothing left to do
	CloseVersion  CloseCode = 1 // no common version
	CloseProtocol CloseCode = 2 // the other end broke the protocol
	CloseLimit    CloseCode = 3 // over a limit
	CloseRevoked  CloseCode = 4 // the identity may no longer use this server
	CloseAway     CloseCode = 5 // the process is stopping
	CloseUnknown  CloseCode = 6 // the session may not be resumed
)

// ClosedError is the end of a session that the peer announced with a close
// message.
type ClosedError struct {
	Code   CloseCode
	Reason string // for people, may be empty; no control characters
}

func (e *ClosedError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("the peer closed the session (code %d)", e.Code)
	}
	return "the peer closed the session: " + e.Reason
}

// AppendClose appends a close message to b. The reason is cut at MaxReason
// bytes.
func AppendClose(b []byte, c CloseCode, reason string) []byte {
	b = append(b, byte(MessageClose), byte(c))
	return append(b, cutReason(reason)...)
}

// ParseClose reads a close message, its type included.
func ParseClose(b []byte) (*ClosedError, error) {
	if len(b) < 2 || len(b) > 2+MaxReason {
		return nil, ProtocolError("close message of %d bytes", len(b))
	}
	return &ClosedError{CloseCode(b[1]), Printable(b[2:])}, nil
}

// cutReason returns s as valid UTF-8 of at most MaxReason bytes.
func cutReason(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), MaxReason)], "")
}

// Printable makes a peer's text safe for a log line.
func Printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, string(b))
}
