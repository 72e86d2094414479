package mux

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"adit/mux/link"
)

// hello is the first message each way on a connection (link.MessageHello):
//
//	type (1 byte) · version (1) · parameters: key (1) · length (2) · value …
//
// An unknown parameter is skipped, so that a later version can add some; only
// type and version are common to all versions. A hello has at most maxHello
// bytes.
type hello struct {
	version    byte
	maxStreams uint32 // how many streams the sender takes at once
	credit     uint32 // payload bytes that each new stream may send unasked

	// hold is how long the session may wait for another connection, in
	// milliseconds: the client asks, the server decides. 0: not at all.
	hold    uint32
	key     *sessionKey // from the server: a new session that can be resumed
	resume  *resumption // from the client: the session to be resumed
	resumed *resumed    // from the server: it is

	// kinds are the kinds of stream that the sender understands. Empty: it is of a
	// version that does not say, and understands TCP, Unix and Named.
	kinds []Kind

	// client is set by clients, which so recognize a peer that sends back what it
	// gets.
	client bool
}

// understands reports whether the sender of the hello serves streams of a kind.
func (h *hello) understands(k Kind) bool {
	if len(h.kinds) == 0 {
		return k <= Named
	}
	return slices.Contains(h.kinds, k)
}

// sessionKey is what a client needs to resume a session.
type sessionKey struct {
	id     sessionID
	secret [32]byte
}

type sessionID [16]byte

// resumption asks for a session to go on over this connection.
type resumption struct {
	id       sessionID
	attempt  uint32 // larger than in every earlier one: no attempt counts twice
	received uint64 // bytes of the link's stream
	proof    [sha256.Size]byte
}

// resumed is the server's consent to a resumption.
type resumed struct {
	received uint64 // bytes of the link's stream: the client continues behind them
	start    uint64 // the number of the first byte that the server will send
}

// maxHello bounds a hello message, in bytes.
const maxHello = 4 << 10

// The keys of a hello's parameters. A known one of another length is a breach of
// the protocol.
const (
	paramMaxStreams byte = 1 // number (4 bytes)
	paramCredit     byte = 2 // bytes (4)
	paramHold       byte = 3 // milliseconds (4)
	paramKey        byte = 4 // id (16) · secret (32)
	paramResume     byte = 5 // id (16) · attempt (4) · received (8) · proof (32)
	paramResumed    byte = 6 // received (8) · start (8)
	paramKinds      byte = 7 // kinds of stream, one byte each
	paramClient     byte = 8 // empty: the sender is the client
)

// sign returns the proof that the sender of r has the session's key: an
// HMAC-SHA-256 over the request.
func (k *sessionKey) sign(r *resumption) [sha256.Size]byte {
	mac := hmac.New(sha256.New, k.secret[:])
	mac.Write([]byte("adit resumption"))
	mac.Write(r.fixed(nil))
	return [sha256.Size]byte(mac.Sum(nil))
}

// verify reports whether the sender of r has the session's key.
func (k *sessionKey) verify(r *resumption) bool {
	want := k.sign(r)
	return hmac.Equal(want[:], r.proof[:])
}

// fixed appends all of r but the proof.
func (r *resumption) fixed(b []byte) []byte {
	b = append(b, r.id[:]...)
	b = binary.BigEndian.AppendUint32(b, r.attempt)
	return binary.BigEndian.AppendUint64(b, r.received)
}

func appendHello(b []byte, h hello) []byte {
	b = append(b, byte(link.MessageHello), h.version)
	b = appendParam32(b, paramMaxStreams, h.maxStreams)
	b = appendParam32(b, paramCredit, h.credit)
	if h.hold > 0 {
		b = appendParam32(b, paramHold, h.hold)
	}
	if k := h.key; k != nil {
		b = appendParam(b, paramKey, slices.Concat(k.id[:], k.secret[:]))
	}
	if r := h.resume; r != nil {
		b = appendParam(b, paramResume, append(r.fixed(nil), r.proof[:]...))
	}
	if r := h.resumed; r != nil {
		v := binary.BigEndian.AppendUint64(nil, r.received)
		b = appendParam(b, paramResumed, binary.BigEndian.AppendUint64(v, r.start))
	}
	if len(h.kinds) > 0 {
		kinds := make([]byte, len(h.kinds))
		for i, k := range h.kinds {
			kinds[i] = byte(k)
		}
		b = appendParam(b, paramKinds, kinds)
	}
	if h.client {
		b = appendParam(b, paramClient, nil)
	}
	return b
}

func appendParam(b []byte, key byte, value []byte) []byte {
	b = append(b, key)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

func appendParam32(b []byte, key byte, v uint32) []byte {
	return appendParam(b, key, binary.BigEndian.AppendUint32(nil, v))
}

// parseHello leaves the parameters of an unknown version unread: only the
// first two bytes are common to all versions.
func parseHello(b []byte) (hello, error) {
	if len(b) < 2 || link.MessageType(b[0]) != link.MessageHello {
		return hello{}, link.ProtocolError("the first message is not a hello")
	}
	h := hello{version: b[1]}
	if h.version != Version {
		return h, nil
	}
	for b = b[2:]; len(b) > 0; {
		if len(b) < 3 {
			return hello{}, link.ProtocolError("hello cut short")
		}
		key, n := b[0], int(binary.BigEndian.Uint16(b[1:]))
		if b = b[3:]; n > len(b) {
			return hello{}, link.ProtocolError("hello parameter %d cut short", key)
		}
		if !h.set(key, b[:n]) {
			return hello{}, link.ProtocolError("hello parameter %d of %d bytes", key, n)
		}
		b = b[n:]
	}
	if h.maxStreams == 0 || h.credit == 0 {
		return hello{}, link.ProtocolError("hello without a limit of streams or a first credit")
	}
	return h, nil
}

// set stores a parameter and reports whether it has the right length.
func (h *hello) set(key byte, v []byte) bool {
	switch key {
	case paramMaxStreams:
		return parse32(&h.maxStreams, v)
	case paramCredit:
		return parse32(&h.credit, v)
	case paramHold:
		return parse32(&h.hold, v)
	case paramKey:
		const id = len(sessionID{})
		if len(v) != id+len(sessionKey{}.secret) {
			return false
		}
		h.key = &sessionKey{sessionID(v), [32]byte(v[id:])}
	case paramResume:
		const fixed = len(sessionID{}) + 4 + 8
		if len(v) != fixed+sha256.Size {
			return false
		}
		h.resume = &resumption{
			id:       sessionID(v),
			attempt:  binary.BigEndian.Uint32(v[len(sessionID{}):]),
			received: binary.BigEndian.Uint64(v[len(sessionID{})+4:]),
			proof:    [sha256.Size]byte(v[fixed:]),
		}
	case paramResumed:
		if len(v) != 16 {
			return false
		}
		h.resumed = &resumed{binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:])}
	case paramKinds:
		h.kinds = nil
		for _, k := range v {
			h.kinds = append(h.kinds, Kind(k))
		}
	case paramClient:
		h.client = true
		return len(v) == 0
	}
	return true
}

func parse32(to *uint32, v []byte) bool {
	if len(v) != 4 {
		return false
	}
	*to = binary.BigEndian.Uint32(v)
	return true
}

// milliseconds returns d as it is on the wire: 0 for negative, at most 2³²−1.
func milliseconds(d time.Duration) uint32 {
	const most = 1<<32 - 1
	return uint32(min(max(d.Milliseconds(), 0), most))
}
