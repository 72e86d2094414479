package diagnose

import (
	"errors"
	"strings"

	"adit/internal/hint"
	"adit/mux"
)

// ExplainRefusal returns err with a hint if it is the server's refusal to connect
// to a target, and has none yet.
func ExplainRefusal(err error) error {
	var refused *mux.RefusedError
	if errors.As(err, &refused) && hint.Of(err) == "" {
		return hint.With(err, refusalHint(refused))
	}
	return err
}

// refusalHint says what to do when the server does not connect to a target.
func refusalHint(refused *mux.RefusedError) string {
	if strings.Contains(refused.Reason, "name resolution") {
		return "the server's resolver has a problem, not the target: check its /etc/resolv.conf and its DNS"
	}
	switch refused.Code {
	case mux.Forbidden:
		return "the server's policy must list the target in the user's allow = […]"
	case mux.Refused:
		return "the server reached the target's machine, but nothing listens on that port"
	case mux.Unreachable:
		return "the server has no route to the target: check the address as the server sees it"
	case mux.Timeout:
		return "the target does not answer the server: a firewall, or a wrong address"
	case mux.NotFound:
		return "the server does not know this name: check its spelling, the server's DNS, and its [[target]] tables"
	case mux.Busy:
		return "a limit is reached: try again, or raise the limits on the server"
	case mux.GoingAway:
		return "the server is stopping: try again"
	}
	return "see the server's log"
}
