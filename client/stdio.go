package client

import (
	"context"
	"io"
	"sync"
	"time"

	"adit/mux"
	"adit/tunnel"
)

// Stdio connects once and relays between one stream to target and a pair of
// pipes, such as standard input and output; ssh's ProxyCommand uses it. It
// returns nil when both directions have ended without error, or ctx is done, and
// closes out before it returns. A Read of in that blocks may outlive it, and
// after the end of ctx a Write of out may, too.
func (c *Client) Stdio(ctx context.Context, target mux.Target, in io.Reader, out io.WriteCloser) error {
	pipe := newPipe(out)
	defer pipe.Abort()
	start := time.Now()
	dialer := c.connector.sessions
	session, server, err := dialer.connect(ctx, dialer.order(""))
	if err != nil {
		return unlessDone(ctx, err)
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
		return unlessDone(ctx, err)
	}
	go pipe.read(in)
	ended := make(chan error, 1)
	go func() {
		_, err := tunnel.Relay(pipe, st)
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		pipe.Abort()
		st.Abort()
		select {
		case <-ended:
		case <-time.After(time.Second):
			// A Write of out blocks.
		}
		return nil
	}
}

func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
