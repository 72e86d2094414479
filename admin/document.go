package admin

import (
	"time"

	"adit/client"
	"adit/internal/metrics"
	"adit/server"
)

// Head is the part of /status that server and client share. docs/metrics.md
// describes the whole document. Fields are added, but never removed or changed
// in meaning.
type Head struct {
	Role    string               `json:"role"` // "server" or "client"
	Version string               `json:"version"`
	Time    time.Time            `json:"time"`    // of this document
	Started time.Time            `json:"started"` // of the process
	Ready   bool                 `json:"ready"`   // as /readyz
	Reason  string               `json:"reason"`  // why it is not ready; "" if it is
	Reloads metrics.ReloadCounts `json:"reloads"`
}

// ServerDocument is the /status of a server.
type ServerDocument struct {
	Head
	server.Status
	Certificates []Certificate `json:"certificates"`
	AuditLost    uint64        `json:"audit_records_lost"` // since the start
}

// ClientDocument is the /status of a client.
type ClientDocument struct {
	Head
	client.Status
}

func (a *Admin) head(role string) Head {
	h := Head{
		Role: role, Version: a.cfg.Version, Time: time.Now().UTC(), Started: a.started,
		Ready: true, Reloads: a.cfg.Reloads.Counts(a.started),
	}
	if err := a.ready(); err != nil {
		h.Ready, h.Reason = false, err.Error()
	}
	return h
}

// document returns the ServerDocument or ClientDocument of /status.
func (a *Admin) document() any {
	if a.cfg.Client != nil {
		return ClientDocument{a.head("client"), a.cfg.Client.Status()}
	}
	return ServerDocument{a.head("server"), a.cfg.Server.StatusWithStreams(), append([]Certificate{}, a.cfg.Certificates()...), a.cfg.AuditLost()}
}
