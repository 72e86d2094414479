package diagnose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"adit/internal/hint"
	"adit/internal/units"
	"adit/mux"
)

// The throughput is measured for measureFor, or until measureMost bytes are sent.
const (
	measureFor  = 2 * time.Second
	measureMost = 1 << 30
)

// ended is the end of a measurement, with the error of the stream as its cause.
type ended struct {
	text string
	err  error
}

func (e *ended) Error() string { return e.text }
func (e *ended) Unwrap() error { return e.err }

// measure sends zeros to a target and counts them, and what the target sends back.
func (c *Check) measure(ctx context.Context, session *mux.Session, t mux.Target) error {
	st, err := c.open(ctx, session, t)
	if err != nil {
		return c.fail("throughput", fmt.Errorf("%s: %w", t, err), 0)
	}
	start := time.Now()
	received := make(chan int64)
	go func() {
		n, _ := io.Copy(io.Discard, st) // until the Abort below
		received <- n
	}()
	var sent int64
	chunk := make([]byte, 64<<10)
	abort := context.AfterFunc(ctx, st.Abort)
	defer abort()
	stalled := time.AfterFunc(measureFor+c.Timeout, st.Abort)
	defer stalled.Stop()
	for time.Since(start) < measureFor && sent < measureMost && err == nil {
		var n int
		n, err = st.Write(chunk)
		sent += int64(n)
	}
	elapsed := time.Since(start)
	st.Abort()
	back := <-received
	st.Close()
	if err != nil {
		var reset *mux.ResetError
		switch {
		case errors.As(err, &reset) && reset.Remote:
			err = &ended{fmt.Sprintf("the target %s closed the connection after %s", t, units.Binary(sent)), err}
		case ctx.Err() == nil && elapsed >= measureFor:
			err = &ended{fmt.Sprintf("the target %s stopped reading after %s", t, units.Binary(sent)), err}
		default:
			err = fmt.Errorf("%s after %s: %w", t, units.Binary(sent), err)
		}
		return c.fail("throughput", hint.With(err, "the target must take any data: name an echo or discard service"), elapsed)
	}
	c.line("✓", "throughput", fmt.Sprintf("%s up, %s back: %s/s", units.Binary(sent), units.Binary(back), units.Binary(int64(float64(sent)/elapsed.Seconds()))), elapsed)
	return nil
}
