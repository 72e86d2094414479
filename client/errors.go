package client

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"

	"adit/mux"
	"adit/tunnel/dial"
)

// ErrRefused matches the error of a client that no server can serve, with errors.Is: each attempt
// failed permanently, for example because of its credentials or their certificates.
var ErrRefused = errors.New("the server refuses this client")

// ErrLinkDown is why a connection was reset that waited for a session longer
// than Config.LinkWait.
var ErrLinkDown = errors.New("the link to the server is down")

var (
	errReplaced  = errors.New("another session takes new streams")
	errGoingAway = errors.New("the server is going away")
)

// joinAttempts returns one error for the failed attempts of a round. It is
// ErrRefused if each of them failed permanently, but its text names the refusing
// party. Its arguments must be errors of single attempts: permanent would find one
// permanent error in a joined one.
func joinAttempts(errs ...error) error {
	if len(errs) == 0 || slices.ContainsFunc(errs, func(err error) bool { return !permanent(err) }) {
		return errors.Join(errs...)
	}
	text := refusal(errs[0])
	if slices.ContainsFunc(errs, func(err error) bool { return refusal(err) != text }) {
		text = refusedByAll
	}
	return &refusedError{text, errors.Join(errs...)}
}

// refusedError is a permanent failure.
type refusedError struct {
	text string // says which party refuses
	err  error
}

func (e *refusedError) Error() string        { return e.text + ": " + e.err.Error() }
func (e *refusedError) Unwrap() error        { return e.err }
func (e *refusedError) Is(target error) bool { return target == ErrRefused }

const refusedByAll = "no server can be used"

// refusal says which party ended an attempt permanently.
func refusal(err error) string {
	var step *dial.Error
	if !errors.As(err, &step) {
		return ErrRefused.Error() // a close message
	}
	var alert *net.OpError
	byPeer := errors.As(err, &alert) && alert.Op == "remote error"
	var certificate *tls.CertificateVerificationError
	switch {
	case step.Step == dial.StepProxy && errors.As(err, &certificate):
		return "this client does not trust the proxy"
	case step.Step == dial.StepProxy:
		return "the proxy refuses this client"
	case step.Step == dial.StepTLS && !byPeer:
		return "this client does not trust the server"
	case step.Step == dial.StepUpgrade, byPeer:
		return ErrRefused.Error()
	}
	return "this client cannot connect"
}

// permanent reports whether another attempt at the same server would fail alike.
func permanent(err error) bool {
	var step *dial.Error
	var byPeer *mux.ClosedError
	return errors.As(err, &step) && step.Permanent ||
		errors.As(err, &byPeer) && (byPeer.Code == mux.CloseVersion || byPeer.Code == mux.CloseRevoked)
}

// appendHints appends the hints in err, which may join errors of several
// servers, each once.
func appendHints(list []string, err error) []string {
	if e, ok := err.(interface{ Hint() string }); ok && e.Hint() != "" {
		if !slices.Contains(list, e.Hint()) {
			list = append(list, e.Hint())
		}
		return list
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		list = appendHints(list, e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			list = appendHints(list, err)
		}
	}
	return list
}
