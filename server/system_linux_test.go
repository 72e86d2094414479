package server

import (
	"testing"

	sys "golang.org/x/sys/unix"

	"adit/internal/testnet"
)

// maxDescriptors returns how many descriptors this process may have.
func maxDescriptors(t *testing.T) int {
	var limit sys.Rlimit
	if err := sys.Getrlimit(sys.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return int(min(limit.Cur, 1<<20))
}

// blackhole returns an address that neither accepts nor refuses connections.
func blackhole(t *testing.T) string { return testnet.Blackhole(t) }
