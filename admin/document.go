package admin

import (
	"time"

	"adit/client"
	"adit/internal/metrics"
	"adit/server"
)

// Head begins the answer of /status on both ends. docs/metrics.md describes all
// of the answer. Fields are added, and never removed or given another meaning.
type Head struct {
	Role    string               `json:"role"` // "server" or "client"
	Version string               `json:"version"`
	Time    time.Time            `json:"time"`    // of the answer
	Started time.Time            `json:"started"` // the process
	Ready   bool                 `json:"ready"`   // as /readyz
	Reason  string               `json:"reason"`  // why it is not ready; "" when it is
	Reloads metrics.ReloadCounts `json:"reloads"`
}

// ServerDocument is the answer of a server.
type ServerDocument struct {
	Head
	server.Status
	Certificates []Certificate `json:"certificates"`
}

// ClientDocument is the answer of a client.
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

// document is a ServerDocument or a ClientDocument.
func (a *Admin) document() any {
	if a.cfg.Client != nil {
		return ClientDocument{a.head("client"), a.cfg.Client.Status()}
	}
	return ServerDocument{a.head("server"), a.cfg.Server.Status(), append([]Certificate{}, a.cfg.Certificates()...)}
}
