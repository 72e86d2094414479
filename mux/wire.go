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

	"adit/mux/link"
)

// This file is the wire format inside a session, and nothing else. The messages
// of a connection are in package link (wire.go), hello messages in hello.go.
// docs/protocol.md describes all of it byte by byte; integers are big-endian.
//
//	opener                                  acceptor
//	│── open (target), frames … ─────────────►│   one round trip to the first byte
//	│◄──────────────── result (code, reason) ─│
//	│◄─────────────────────────── frames … ───│
//	│── end ─────────────────────────────────►│   each direction ends by itself
//	│◄─────────────────────────────────── end─│
//
// Credit, resets and requests to migrate travel on the control stream.

// Version is the one version of the link protocol that this package speaks.
const Version = 1

// Bounds of the format. A peer that exceeds one is in breach of the protocol.
const (
	MaxAddress = 1024           // bytes of a target's address
	MaxReason  = link.MaxReason // bytes of a reason for people
	MaxFrame   = link.MaxFrame  // payload bytes of one data frame
)

// Kind says what a target's address is.
type Kind byte

// The kinds of target.
const (
	TCP   Kind = 1 // HOST:PORT, dialed by the server
	Unix  Kind = 2 // the path of a unix stream socket on the server
	Named Kind = 3 // the name of a target in the server's configuration
)

// Target is what a stream is to be connected to.
type Target struct {
	Kind    Kind
	Address string // at most MaxAddress bytes, no control characters
}

// String returns the target as people write it: HOST:PORT, unix:PATH or NAME.
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

// The header that opens a stream, from the opener:
//
//	version (1 byte, openVersion) · kind (1) · length (2) · address (length bytes)
//
// length is at most MaxAddress. Another version or a bad target is a breach of
// the protocol; a stream of an unknown kind is refused as Unsupported.
const (
	openVersion   = 1
	openFixedSize = 4
)

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
		return Target{}, link.ProtocolError("stream header of version %d, this side speaks %d", fixed[0], openVersion)
	}
	n := int(binary.BigEndian.Uint16(fixed[2:]))
	if n > MaxAddress {
		return Target{}, link.ProtocolError("target address of %d bytes", n)
	}
	address := make([]byte, n)
	if _, err := io.ReadFull(r, address); err != nil {
		return Target{}, noEOF(err)
	}
	t := Target{Kind(fixed[1]), string(address)}
	if t.Kind < TCP || t.Kind > Named {
		return t, errUnknownKind
	}
	if err := t.Validate(); err != nil {
		return Target{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return t, nil
}

var errUnknownKind = errors.New("a stream of a kind that this side does not know")

// The result, the acceptor's answer to an open, ahead of its first frame:
//
//	code (1 byte) · length (2) · reason (length bytes, at most MaxReason)
const resultFixedSize = 3

// appendResult appends a result. The reason is cut at MaxReason bytes.
func appendResult(b []byte, c Code, reason string) []byte {
	reason = strings.ToValidUTF8(reason[:min(len(reason), MaxReason)], "")
	b = append(b, byte(c))
	b = binary.BigEndian.AppendUint16(b, uint16(len(reason)))
	return append(b, reason...)
}

func readResult(r io.Reader) (Code, string, error) {
	var fixed [resultFixedSize]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return 0, "", noEOF(err)
	}
	n := int(binary.BigEndian.Uint16(fixed[1:]))
	if n > MaxReason {
		return 0, "", link.ProtocolError("reason of %d bytes", n)
	}
	reason := make([]byte, n)
	if _, err := io.ReadFull(r, reason); err != nil {
		return 0, "", noEOF(err)
	}
	return Code(fixed[0]), link.Printable(reason), nil
}

// frameType is the first byte of each frame inside a stream:
//
//	type (1 byte) · length (3) · payload (length bytes)
//
// An unknown type is a breach of the protocol.
type frameType byte

const (
	frameData frameType = 0 // length is 1 to MaxFrame
	frameEnd  frameType = 1 // this direction has ended well; length is 0
)

// frameHeader is the length of a frame's header.
const frameHeader = 4

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
		return 0, 0, link.ProtocolError("frame of type %d and length %d", t, length)
	}
	return t, length, nil
}

// controlType is the first byte of each frame of the control stream:
//
//	type (1 byte) · stream (4) · value (4)
//
// An unknown type is skipped: a later version may send some.
type controlType byte

const (
	controlCredit    controlType = 1 // value more bytes of frames may be sent on stream
	controlReset     controlType = 2 // stream is over in both directions; value is a Code
	controlGoingAway controlType = 3 // going away: open no new streams; stream is 0
	controlMigrate   controlType = 4 // migrate to a new connection within value ms; stream is 0
	controlRevoke    controlType = 5 // return up to value bytes of unused credit on stream
	controlReturned  controlType = 6 // the answer: value bytes of credit on stream are returned
)

// controlSize is the length of a control frame.
const controlSize = 9

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

// noEOF turns an end in the middle of something into io.ErrUnexpectedEOF.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
