// Package diagnose tests every hop from a client to its server and to the targets
// behind it, and says which one fails, why, and what to do.
package diagnose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"adit/certs"
	"adit/internal/hint"
	"adit/internal/units"
	"adit/mux"
	"adit/tunnel/dial"
)

// Check prints one line for each hop that it tests. The first failure ends the test of a server.
type Check struct {
	Out        io.Writer
	Dial       *dial.Options // Run sets its time limits and Trace
	ConfigFile string        // where the configuration came from; "" for no file
	Warnings   []string      // printed first
	Ignored    []string      // settings that change nothing here, printed next
	Timeout    time.Duration // for each hop
	Targets    []mux.Target  // the server is asked to connect to each
	Throughput *mux.Target   // receives data for two seconds; nil for none
}

// Run checks the way to each server, and the targets through it. The error, that of
// the first server that failed, has been printed already.
func (c *Check) Run(ctx context.Context, servers []string) error {
	for _, w := range c.Warnings {
		c.note("warning", w)
	}
	if len(c.Ignored) > 0 {
		c.note("ignored", strings.Join(c.Ignored, ", ")+": no effect on a check")
	}
	c.Dial.ConnectTimeout, c.Dial.HandshakeTimeout = c.Timeout, c.Timeout
	c.Dial.Trace = c.dialed
	var failed error
	for i, server := range servers {
		if len(servers) > 1 {
			if i > 0 {
				fmt.Fprintln(c.Out)
			}
			fmt.Fprintf(c.Out, "%s\n", server)
		}
		if err := c.server(ctx, server); failed == nil {
			failed = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return failed
}

// line prints one hop.
func (c *Check) line(mark, hop, detail string, elapsed time.Duration) {
	took := ""
	if elapsed > 0 {
		took = units.Short(elapsed)
	}
	fmt.Fprintf(c.Out, "%s %-14s %9s  %s\n", mark, hop, took, detail)
}

func (c *Check) note(hop, detail string) { c.line("-", hop, detail, 0) }

func (c *Check) ok(hop, detail string, since time.Time) {
	c.line("✓", hop, detail, time.Since(since))
}

// fail prints the hop that failed, with a hint, and returns the error that ends
// the check.
func (c *Check) fail(hop string, err error, elapsed time.Duration) error {
	c.line("✗", hop, err.Error(), elapsed)
	if h := hint.Of(err); h != "" {
		c.line(" ", "", "hint: "+h, 0)
	}
	return fmt.Errorf("%s: %w", hop, err)
}

// dialed prints a hop that the dialer has passed.
func (c *Check) dialed(e dial.Event) {
	if e.Err != nil {
		if e.Retry { // else Dial is about to return it
			next := ": trying another address"
			if e.SmallHello {
				next = ": trying a small ClientHello without post-quantum key shares"
			}
			c.line("-", string(e.Step), e.Err.Error()+next, e.Elapsed)
		}
		return
	}
	detail := e.Detail
	if e.Step == dial.StepConfiguration && c.ConfigFile != "" {
		detail += ", " + c.ConfigFile
	}
	if e.Addr != "" && !strings.Contains(detail, e.Addr) {
		detail = e.Addr + ": " + detail
	}
	c.line("✓", string(e.Step), detail, e.Elapsed)
	if e.Step == dial.StepTLS && e.TLS != nil && len(e.TLS.PeerCertificates) > 0 {
		c.note("", "pin "+certs.PinOf(e.TLS.PeerCertificates[0]).String())
	}
}

// server checks the way to one server, and the targets through it.
func (c *Check) server(ctx context.Context, server string) error {
	start := time.Now()
	conn, err := dial.Dial(ctx, server, c.Dial)
	if err != nil {
		hop := "connection"
		var step *dial.Error
		if errors.As(err, &step) {
			hop = string(step.Step)
		}
		return c.fail(hop, err, time.Since(start))
	}
	start = time.Now()
	session, err := mux.Client(ctx, conn, &mux.Config{HandshakeTimeout: c.Timeout, ResumeTimeout: -1})
	if err != nil {
		return c.fail("authentication", hint.With(err, "the server let the connection in but does not speak adit's protocol, or has another version: check the path, which may be that of a route (the tunnel's is /tunnel if the server does not say otherwise), and see the server's log"), time.Since(start))
	}
	defer session.CloseReason(mux.CloseDone, "")
	c.ok("authentication", "the server accepts this client", start)
	for _, t := range c.Targets {
		if err := c.target(ctx, session, t); err != nil {
			return err
		}
	}
	if len(c.Targets) == 0 {
		c.note("policy, target", "not tested: name one with --target db.lan:5432 or a forward")
	}
	if err := c.roundTrip(ctx, session); err != nil {
		return err
	}
	if c.Throughput == nil {
		c.note("throughput", "not measured: --throughput TARGET sends to one that takes any data")
		return nil
	}
	return c.measure(ctx, session, *c.Throughput)
}
