package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"adit/auth"
)

// ticketKey signs tickets. A server makes one when it starts.
type ticketKey [32]byte

func newTicketKey() (k ticketKey) {
	rand.Read(k[:]) // never fails
	return k
}

var (
	errTicketForged  = errors.New("the ticket is not one of this server for this route")
	errTicketExpired = errors.New("the ticket has expired")
)

// maxTicket is more than the length of any ticket: 8 bytes of time, 16 of proof,
// a name of up to 128 bytes and a signature of 32, in base64.
const maxTicket = 256

// minTicket is the length of the shortest ticket, in bytes, not encoded.
const minTicket = 8 + len(auth.Proof{}) + sha256.Size

// make returns a ticket: the time when it expires in Unix seconds (8 bytes, big
// endian), the proof, the user's name, and the signature of all that and the
// route; all in base64url without padding.
func (k *ticketKey) make(user string, proof auth.Proof, id routeID, expires time.Time) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(expires.Unix()))
	b = append(b, proof[:]...)
	b = append(b, user...)
	return base64.RawURLEncoding.EncodeToString(append(b, k.sign(b, id)...))
}

// check returns the user of a ticket, and the proof of the credential for which
// it was issued.
func (k *ticketKey) check(ticket string, id routeID, now time.Time) (user string, proof auth.Proof, err error) {
	if len(ticket) > maxTicket {
		return "", proof, errTicketForged
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(ticket)
	if err != nil || len(b) < minTicket {
		return "", proof, errTicketForged
	}
	content, signature := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if !hmac.Equal(signature, k.sign(content, id)) {
		return "", proof, errTicketForged
	}
	if uint64(now.Unix()) >= binary.BigEndian.Uint64(content) {
		return "", proof, errTicketExpired
	}
	name := content[8+copy(proof[:], content[8:]):]
	return string(name), proof, nil
}

// sign returns the signature of a ticket's content for a route.
func (k *ticketKey) sign(content []byte, id routeID) []byte {
	m := hmac.New(sha256.New, k[:])
	// No part contains a NUL, so that the parts are unambiguous.
	fmt.Fprintf(m, "adit ticket\x00%s\x00%s\x00%t\x00", id.host, id.path, id.exact)
	m.Write(content)
	return m.Sum(nil)
}
