package mux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// This file is the wire format, and nothing else. docs/protocol.md describes
// it byte by byte; all integers are big-endian.

// Version is the one version of the link protocol that this package speaks.
const Version = 1

// Bounds of the format. A peer that exceeds one is in breach of the protocol.
const (
	MaxAddress    = 1024      // bytes of a target's address
	MaxReason     = 512       // bytes of a human-readable reason
	MaxFrame      = 128 << 10 // payload bytes of one data frame
	maxHello      = 4 << 10   // bytes of a hello message
	frameHeader   = 4
	controlSize   = 9
	ackSize       = 8
	openVersion   = 1
	openFixedSize = 4 // version, kind, length of the address
)

// ErrProtocol is wrapped by every error that means that the peer broke the
// protocol.
var ErrProtocol = errors.New("protocol error")

func protocolError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// Kind says what a target's address is.
type Kind byte

// The kinds of target.
const (
	TCP   Kind = 1 // HOST:PORT, dialled by the server
	Unix  Kind = 2 // the path of a unix stream socket on the server
	Named Kind = 3 // the name of a target in the server's configuration
)

// Target is what a stream is to be connected to.
type Target struct {
	Kind    Kind
	Address string // at most MaxAddress bytes, no control characters
}

// String gives the target as people write it: HOST:PORT, unix:PATH or NAME.
func (t Target) String() string {
	switch t.Kind {
	case TCP, Named:
		return t.Address
	case Unix:
		return "unix:" + t.Address
	}
	return fmt.Sprintf("kind-%d:%s", t.Kind, t.Address)
}

// Validate reports why a target cannot be sent, or nil.
func (t Target) Validate() error {
	if t.Kind < TCP || t.Kind > Named {
		return fmt.Errorf("unknown kind of target %d", t.Kind)
	}
	if t.Address == "" {
		return errors.New("empty target address")
	}
	if len(t.Address) > MaxAddress {
		return fmt.Errorf("target address of %d bytes, at most %d are allowed", len(t.Address), MaxAddress)
	}
	if !utf8.ValidString(t.Address) || strings.ContainsFunc(t.Address, unicode.IsControl) {
		return fmt.Errorf("target address %s has control characters or is not UTF-8", strconv.QuoteToASCII(t.Address))
	}
	return nil
}

// appendOpen appends the header that opens a stream.
func appendOpen(b []byte, t Target) []byte {
	b = append(b, openVersion, byte(t.Kind))
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.Address)))
	return append(b, t.Address...)
}

// readOpen reads the header that opens a stream. io.EOF means that the stream
// ended before its first byte.
func readOpen(r io.Reader) (Target, error) {
	var fixed [openFixedSize]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return Target{}, err
	}
	if fixed[0] != openVersion {
		return Target{}, protocolError("stream header of version %d, this side speaks %d", fixed[0], openVersion)
	}
	n := int(binary.BigEndian.Uint16(fixed[2:]))
	if n > MaxAddress {
		return Target{}, protocolError("target address of %d bytes", n)
	}
	address := make([]byte, n)
	if _, err := io.ReadFull(r, address); err != nil {
		return Target{}, noEOF(err)
	}
	t := Target{Kind(fixed[1]), string(address)}
	if err := t.Validate(); err != nil {
		return Target{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return t, nil
}

// Code says how an attempt to connect a stream ended, or why one was reset.
type Code byte

// The codes. A peer may send others, of a later version; they read as "code N".
const (
	Connected   Code = 0
	Refused     Code = 1 // the target refused the connection
	Unreachable Code = 2 // no route to the target
	Timeout     Code = 3 // the target did not answer in time
	NotFound    Code = 4 // the name does not resolve, or no such named target
	Forbidden   Code = 5 // the server's policy does not allow it
	Busy        Code = 6 // over a limit
	Failed      Code = 7 // any other failure
	GoingAway   Code = 8 // this session takes no new streams
	Reset       Code = 9 // the connection at the other end was reset
	Cancelled   Code = 10
)

var codeNames = [...]string{
	Connected: "connected", Refused: "refused", Unreachable: "unreachable", Timeout: "timeout",
	NotFound: "not-found", Forbidden: "forbidden", Busy: "busy", Failed: "failed",
	GoingAway: "going-away", Reset: "reset", Cancelled: "cancelled",
}

func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "code " + strconv.Itoa(int(c))
}

// appendResult appends the answer to an open: a code and a reason for people,
// cut at MaxReason bytes.
func appendResult(b []byte, c Code, reason string) []byte {
	if len(reason) > MaxReason {
		reason = reason[:MaxReason]
	}
	reason = strings.ToValidUTF8(reason, "")
	b = append(b, byte(c))
	b = binary.BigEndian.AppendUint16(b, uint16(len(reason)))
	return append(b, reason...)
}

func readResult(r io.Reader) (Code, string, error) {
	var fixed [3]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return 0, "", noEOF(err)
	}
	n := int(binary.BigEndian.Uint16(fixed[1:]))
	if n > MaxReason {
		return 0, "", protocolError("reason of %d bytes", n)
	}
	reason := make([]byte, n)
	if _, err := io.ReadFull(r, reason); err != nil {
		return 0, "", noEOF(err)
	}
	return Code(fixed[0]), printable(reason), nil
}

// frameType is the first byte of each frame inside a stream.
type frameType byte

const (
	frameData frameType = 0 // length payload bytes follow
	frameEnd  frameType = 1 // this direction has ended well; length is 0
)

func putFrame(b []byte, t frameType, length int) {
	binary.BigEndian.PutUint32(b, uint32(t)<<24|uint32(length))
}

func parseFrame(b [frameHeader]byte) (frameType, int, error) {
	v := binary.BigEndian.Uint32(b[:])
	t, length := frameType(v>>24), int(v&0xffffff)
	switch {
	case t == frameData && length > 0 && length <= MaxFrame:
	case t == frameEnd && length == 0:
	default:
		return 0, 0, protocolError("frame of type %d and length %d", t, length)
	}
	return t, length, nil
}

// controlType is the first byte of each frame of the control stream.
type controlType byte

const (
	controlCredit   controlType = 1 // value more payload bytes may be sent on stream
	controlReset    controlType = 2 // stream is over in both directions; value is a Code
	controlAway     controlType = 3 // no new streams, please; stream is 0
	controlMove     controlType = 4 // go over to a new connection within value ms, please; stream is 0
	controlRecall   controlType = 5 // return up to value bytes of unused credit on stream, please
	controlReturned controlType = 6 // value bytes of credit on stream are not used, as asked for
)

type controlFrame struct {
	typ    controlType
	stream uint32
	value  uint32
}

func appendControl(b []byte, f controlFrame) []byte {
	b = append(b, byte(f.typ))
	b = binary.BigEndian.AppendUint32(b, f.stream)
	return binary.BigEndian.AppendUint32(b, f.value)
}

func parseControl(b [controlSize]byte) controlFrame {
	return controlFrame{controlType(b[0]), binary.BigEndian.Uint32(b[1:]), binary.BigEndian.Uint32(b[5:])}
}

// messageType is the first byte of each WebSocket message of a link.
type messageType byte

const (
	messageHello messageType = 1 // the first message each way: version and parameters
	messageData  messageType = 2 // an acknowledgement, then bytes of the link's stream
	messageAck   messageType = 3 // an acknowledgement alone
	messageClose messageType = 4 // the session is over: a code and a reason
)

// CloseCode says why a session was closed.
type CloseCode byte

// The codes of a session's end.
const (
	CloseDone     CloseCode = 0 // nothing left to do
	CloseVersion  CloseCode = 1 // no common version
	CloseProtocol CloseCode = 2 // the other end broke the protocol
	CloseLimit    CloseCode = 3 // over a limit
	CloseRevoked  CloseCode = 4 // the identity may no longer use this server
	CloseAway     CloseCode = 5 // the process is stopping
	CloseUnknown  CloseCode = 6 // the session may not be resumed
)

// ClosedError is the end of a session that the peer announced.
type ClosedError struct {
	Code   CloseCode
	Reason string
}

func (e *ClosedError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("the peer closed the session (code %d)", e.Code)
	}
	return "the peer closed the session: " + e.Reason
}

func appendClose(b []byte, c CloseCode, reason string) []byte {
	if len(reason) > MaxReason {
		reason = reason[:MaxReason]
	}
	b = append(b, byte(messageClose), byte(c))
	return append(b, strings.ToValidUTF8(reason, "")...)
}

func parseClose(b []byte) (*ClosedError, error) {
	if len(b) < 2 || len(b) > 2+MaxReason {
		return nil, protocolError("close message of %d bytes", len(b))
	}
	return &ClosedError{CloseCode(b[1]), printable(b[2:])}, nil
}

// printable makes a peer's text safe for a log line.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, string(b))
}

// noEOF turns an end in the middle of something into what it is.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
