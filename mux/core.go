package mux

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/yamux"

	"adit/mux/link"
)

// core is what a session's streams share: the layers below them.
type core struct {
	link        *link.Link
	adapter     *adapter
	control     *control
	windows     *windows
	openTimeout time.Duration
	frameSize   func() int // link.FrameSize
}

// ErrSessionLost is wrapped by the errors of streams whose session ended under
// them.
var ErrSessionLost = errors.New("the session was lost")

// cause replaces what yamux says by the reason for the link's end, if it has
// ended.
func (c *core) cause(err error) error {
	if reason := c.link.Err(); reason != nil {
		err = reason
	} else if !errors.Is(err, yamux.ErrSessionShutdown) { // yamux sometimes ends before the link
		return err
	}
	return fmt.Errorf("%w: %w", ErrSessionLost, err)
}
