//go:build !linux

package server

import "testing"

// maxDescriptors returns how many descriptors any process may have.
func maxDescriptors(*testing.T) int { return 1000 }

// blackhole needs a listener whose queue is full.
func blackhole(t *testing.T) string {
	t.Skip("there is no such address on this system")
	return ""
}
