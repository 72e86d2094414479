package server

import (
	"testing"

	sys "golang.org/x/sys/unix"

	"adit/internal/testnet"
)

// descriptors is how many this process may have.
func descriptors(t *testing.T) int {
	var limit sys.Rlimit
	if err := sys.Getrlimit(sys.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return int(min(limit.Cur, 1<<20))
}

// blackhole is an address that neither accepts nor refuses.
func blackhole(t *testing.T) string { return testnet.Blackhole(t) }
