//go:build !linux

package mux

// poller does nothing on this system.
type poller struct{}

func (poller) wrote(int) {}
func (poller) close()    {}
