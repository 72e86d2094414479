//go:build !unix

package client

// hasNoReader returns false: this system reports it by failed writes only.
func hasNoReader(uintptr) bool { return false }
