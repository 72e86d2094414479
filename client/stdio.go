package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"adit/mux"
	"adit/tunnel"
)

// Stdio connects once and relays between one stream to target and a pair of
// pipes, such as standard input and output; ssh's ProxyCommand uses it. It
// returns nil when both directions have ended without error, when ctx is done,
// or when out has lost its reader: a Write fails with EPIPE, or in has ended and
// nothing is left to do but to write to out.
//
// It closes out when the target has ended its direction, and before it returns
// nil. When it returns an error before that, out stays open: the caller can say
// why before the reader of out sees its end. A Read of in that blocks may outlive
// Stdio, and after the end of ctx a Write of out may, too.
func (c *Client) Stdio(ctx context.Context, target mux.Target, in io.Reader, out io.WriteCloser) error {
	pipe := newPipe(out)
	err := c.stdio(ctx, target, in, pipe)
	pipe.Abort()
	switch {
	case ctx.Err() != nil:
		err = nil
	case readerGone(err):
		c.log.Debug("standard output has no reader")
		err = nil
	case errors.Is(err, mux.ErrSessionLost) && c.connector.lastFailure != nil:
		err = fmt.Errorf("%w; reconnecting failed: %w", err, c.connector.lastFailure)
	}
	if err == nil {
		pipe.CloseWrite()
	}
	return err
}

// stdio does what Stdio promises except for closing out. It returns errNoReader
// when in has ended and out has no reader.
func (c *Client) stdio(ctx context.Context, target mux.Target, in io.Reader, pipe *pipe) error {
	start := time.Now()
	dialer := c.connector.sessions
	session, server, err := dialer.connect(ctx, dialer.order(""))
	if err != nil {
		return err
	}
	// The session must outlive ctx until the stream has been aborted.
	sessionCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var connector sync.WaitGroup
	connector.Go(func() { c.connector.runSession(sessionCtx, session, server, start) })
	defer func() {
		cancel()
		connector.Wait()
	}()
	st, err := session.Open(ctx, target)
	if err != nil {
		return err
	}
	noReader := make(chan struct{})
	go func() {
		pipe.read(in)
		if pipe.awaitNoReader() {
			close(noReader)
		}
	}()
	ended := make(chan error, 1)
	go func() {
		_, err := tunnel.Relay(pipe, st)
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-noReader:
		err = errNoReader
	case <-ctx.Done():
	}
	pipe.Abort()
	st.Abort()
	select {
	case <-ended:
	case <-time.After(time.Second):
		// A Write of out blocks.
	}
	return err
}
