package server

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"net"
	"time"

	"adit/internal/audit"
	"adit/mux"
)

// newSessionID names a session, or a connection of a route, in the log and the
// audit records. It opens nothing.
func newSessionID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// recording is an audit record in the making.
type recording struct {
	audit.Record
	start time.Time
	put   func(audit.Record) // nil: nobody wants it
}

func (s *Server) record(kind, session, user, client, target string) *recording {
	return &recording{
		Record: audit.Record{Kind: kind, Session: session, User: user, Client: client, Target: target},
		start:  time.Now(), put: s.cfg.Audit,
	}
}

// dialled notes where the connection goes.
func (r *recording) dialled(conn net.Conn) {
	if a := conn.RemoteAddr(); a != nil {
		r.Address = a.String()
		if a.Network() == "unix" {
			r.Address = "unix:" + r.Address
		}
	}
}

// relayed ends the record of what was. toTarget and toClient are bytes of
// payload; err is the relay's, and reason what is to be said of the end, by
// default err.
func (r *recording) relayed(toTarget, toClient int64, err error, reason string) {
	r.ToTarget, r.ToClient = toTarget, toClient
	result := audit.Ended
	if err != nil {
		result = audit.Reset
		reason = cmp.Or(reason, err.Error())
	}
	r.end(result, reason)
}

// end ends the record: by itself, that of what was never connected.
func (r *recording) end(result, reason string) {
	if r.put == nil {
		return
	}
	r.Result, r.Reason = result, reason
	r.Time = time.Now()
	r.Seconds = r.Time.Sub(r.start).Round(time.Microsecond).Seconds()
	r.put(r.Record)
}

// muxConfig is that of a new session.
func (s *Server) muxConfig() *mux.Config {
	c := s.cfg.Mux
	c.MaxStreams = s.access.Load().maxStreams
	return &c
}
