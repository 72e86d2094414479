package server

import (
	"fmt"
	"net/netip"

	"adit/auth"
	"adit/internal/dialout"
	"adit/mux"
)

// authorize returns where a target is if the policy allows it. A target that
// the policy allows by its name has the address that the operator gave it, which
// is not judged. For any other, the policy is asked about each resolved address
// at the moment of connecting to it.
func (a *access) authorize(policy *auth.Policy, t mux.Target) (dialout.Destination, error) {
	switch t.Kind {
	case mux.Named:
		to, known := a.targets[t.Address]
		denied := policy.AllowTarget(t.Address)
		switch {
		case known && denied == nil:
			return dialout.Destination{Address: to}, nil
		case known:
			return authorizeAddress(policy, to)
		case denied != nil: // the same answer as for a target that exists
			return dialout.Destination{}, forbidden(denied)
		}
		err := fmt.Errorf("the server has no target of that name: %q", t.Address)
		return dialout.Destination{}, &dialout.Refusal{Code: mux.NotFound, Reason: err.Error(), Err: err}
	case mux.Unix:
		return authorizeAddress(policy, dialout.Address{Network: "unix", Host: t.Address})
	}
	to, err := dialout.ParseHostPort(t.Address)
	if err != nil {
		return dialout.Destination{}, &dialout.Refusal{Code: mux.Failed, Reason: err.Error(), Err: err}
	}
	return authorizeAddress(policy, to)
}

// authorizeAddress is authorize for an address that the client may have chosen.
func authorizeAddress(policy *auth.Policy, to dialout.Address) (dialout.Destination, error) {
	if to.Network == "unix" {
		return dialout.Destination{Address: to}, forbidden(policy.AllowUnix(to.Host))
	}
	return dialout.Destination{Address: to, Check: func(resolved netip.AddrPort) error {
		return forbidden(policy.Authorize(to.Host, resolved))
	}}, forbidden(policy.MayAsk(to.Host, to.Port))
}

// forbidden returns nil for nil, and otherwise the refusal that hides the
// policy's reason from the client.
func forbidden(err error) error {
	if err == nil {
		return nil
	}
	return &dialout.Refusal{Code: mux.Forbidden, Reason: "the server's policy does not allow it", Err: err}
}
