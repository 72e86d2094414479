//go:build !linux

package mux

// poller does nothing on this system.
type poller struct{}

const canPoll = false

func (poller) poll()  {}
func (poller) close() {}

func yield() {}
