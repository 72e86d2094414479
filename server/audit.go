package server

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"net"
	"time"

	"adit/internal/audit"
)

// newSessionID returns a name for a session, or for a connection of a route, in
// the log and the audit records. It is no secret.
func newSessionID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// recording is an audit record that is not complete yet.
type recording struct {
	audit.Record
	start time.Time
	put   func(audit.Record) // nil: no records
}

func newRecording(put func(audit.Record), kind, id, user, client, target string) *recording {
	return &recording{
		Record: audit.Record{Kind: kind, Session: id, User: user, Client: client, Target: target},
		start:  time.Now(), put: put,
	}
}

// dialed records the address of the target or backend.
func (r *recording) dialed(conn net.Conn) {
	if a := conn.RemoteAddr(); a != nil {
		r.Address = a.String()
		if a.Network() == "unix" {
			r.Address = "unix:" + r.Address
		}
	}
}

// relayed completes the record of a connection that was relayed. toTarget and
// toClient are bytes of payload; err is the relay's error, and reason replaces
// its text unless empty.
func (r *recording) relayed(toTarget, toClient int64, err error, reason string) {
	r.ToTarget, r.ToClient = toTarget, toClient
	result := audit.Ended
	if err != nil {
		result = audit.Reset
		reason = cmp.Or(reason, err.Error())
	}
	r.end(result, reason)
}

// end completes the record. Only a connection that was never relayed ends this
// way directly.
func (r *recording) end(result, reason string) {
	if r.put == nil {
		return
	}
	r.Result, r.Reason = result, reason
	r.Time = time.Now()
	r.Seconds = r.Time.Sub(r.start).Round(time.Microsecond).Seconds()
	r.put(r.Record)
}
