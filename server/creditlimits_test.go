package server

import (
	"errors"
	"testing"

	"adit/internal/testnet"
	"adit/mux"
)

// The sessions of a user together may not make the server hold more than the user's
// bound; another user has a bound of its own.
func TestStreamMemoryOfAUser(t *testing.T) {
	g := start(t, Config{UserStreamMemory: 4 * 64 << 10}, Access{Users: users(t, user("alice", "*:*"), user("bob", "*:*"))})
	echo := tcp(testnet.Echo(t))
	first, second := g.session(t, "alice"), g.session(t, "alice")
	for range 2 {
		mustOpen(t, first, echo)
		mustOpen(t, second, echo)
	}
	st, err := second.Open(t.Context(), echo)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var refused *mux.RefusedError
	if err := st.Result(); !errors.As(err, &refused) || refused.Code != mux.Busy {
		t.Errorf("a stream above the bound: %v", err)
	}
	mustEcho(t, mustOpen(t, g.session(t, "bob"), echo))
}
