package mux

import "adit/mux/link"

// What callers of package mux need of package link.

type (
	// Resumption describes how a session continued on another connection.
	Resumption = link.Resumption
	// ClosedError is the end of a session that the peer announced.
	ClosedError = link.ClosedError
	// CloseCode says why a session was closed.
	CloseCode = link.CloseCode
)

// The codes of a session's end.
const (
	CloseDone     = link.CloseDone
	CloseVersion  = link.CloseVersion
	CloseProtocol = link.CloseProtocol
	CloseLimit    = link.CloseLimit
	CloseRevoked  = link.CloseRevoked
	CloseAway     = link.CloseAway
	CloseUnknown  = link.CloseUnknown
)

var (
	// ErrProtocol is wrapped by every error that means that the peer broke the
	// protocol.
	ErrProtocol = link.ErrProtocol
	// ErrLinkLost is wrapped by the error of a session whose connection was lost
	// without a close message from the peer.
	ErrLinkLost = link.ErrLost
)
