package client

import (
	"errors"
	"fmt"
	"slices"

	"adit/mux"
	"adit/tunnel/dial"
)

// ErrRefused is wrapped by the error of a client that every server refuses
// permanently, for example because of its credentials or their certificates.
var ErrRefused = errors.New("the server refuses this client")

// ErrLinkDown is why a connection was reset that waited for a session longer
// than Config.LinkWait.
var ErrLinkDown = errors.New("the link to the server is down")

var (
	errReplaced  = errors.New("another session takes new streams")
	errGoingAway = errors.New("the server is going away")
)

// joinAttempts returns one error for the failed attempts of a round. It wraps
// ErrRefused if each of them failed permanently. Its arguments must be errors of
// single attempts: permanent would find one permanent error in a joined one.
func joinAttempts(errs ...error) error {
	err := errors.Join(errs...)
	if !slices.ContainsFunc(errs, func(err error) bool { return !permanent(err) }) {
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
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
