// Package client is the client end of adit. It listens on local addresses,
// keeps a session with one of several servers, and relays each connection that
// it accepts over a stream of that session.
//
//	Client (Run, Stdio)
//	  forwarder ──open stream──► currentSession ◄──set── connector ◄── networkWatcher
//	                                                         │
//	                                                    sessionDialer ──► dial, mux
package client

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"

	"adit/internal/descriptors"
	"adit/internal/progress"
)

// Client is one client. New makes it; it serves one Run or one Stdio.
type Client struct {
	forwards  []*forwarder
	connector *connector
	current   *currentSession
	counters  *counters
	progress  progress.Monitor
	shortage  *descriptors.Shortage
	log       *slog.Logger
}

// New returns a client. It does nothing before Listen, Run or Stdio.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{current: newCurrentSession(), counters: newCounters(), shortage: &descriptors.Shortage{Log: cfg.Logger}, log: cfg.Logger}
	for _, f := range cfg.Forwards {
		c.forwards = append(c.forwards, &forwarder{f, c.current, cfg.LinkWait, cfg.Logger, newForwardCounters(), c.counters})
	}
	c.connector = newConnector(&cfg, c.counters, c.current, func(s State) {
		c.counters.stateChanged(s)
		cfg.OnState(s)
	})
	return c, nil
}

// Listen opens the listeners of all forwards, or none: then the error names the
// forward that failed. Run calls it for those that are not open yet.
func (c *Client) Listen() error {
	var opened []*forwarder
	for _, f := range c.forwards {
		if f.Listener != nil {
			continue
		}
		if err := f.listen(); err != nil {
			for _, f := range opened {
				f.Listener.Close()
				f.Listener = nil
			}
			return err
		}
		opened = append(opened, f)
	}
	return nil
}

// Run serves the forwards until ctx is done. It then resets all streams and
// returns nil. It never returns because of the network, but ErrRefused under
// ExitOnRefusal.
func (c *Client) Run(ctx context.Context) error {
	if err := c.Listen(); err != nil {
		for _, f := range c.forwards {
			if f.Listener != nil {
				f.Listener.Close()
			}
		}
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, f := range c.forwards {
		c.log.Info("listening", "forward", f.name(), "target", f.Target.String(), "addr", f.Listener.Addr().String())
		ln := c.progress.Listener(c.shortage.Listener(f.Listener))
		wg.Go(func() { f.serve(ctx, ln) })
	}
	err := c.connector.run(ctx)
	cancel()
	wg.Wait()
	return err
}

// Reconnect makes the client connect now, without waiting for a pause to end. If
// the session has a connection, it migrates to a new one, and the present one is
// probed meanwhile.
func (c *Client) Reconnect() { c.connector.reconnect() }

// Addrs returns the addresses of the listeners in the order of the forwards. It
// may be called after Listen.
func (c *Client) Addrs() []net.Addr {
	var addrs []net.Addr
	for _, f := range c.forwards {
		addrs = append(addrs, f.Listener.Addr())
	}
	return addrs
}

// Status returns the client's present state and counts. It may be called after
// Listen.
func (c *Client) Status() Status {
	st := c.counters.status()
	for _, f := range c.forwards {
		st.Forwards = append(st.Forwards, f.status())
	}
	return st
}

// Ready returns nil while new streams can be opened, and else why they cannot.
func (c *Client) Ready() error {
	switch link := c.counters.link(); {
	case link.Up:
		return nil
	case link.Error == "":
		return errors.New("connecting")
	default:
		return errors.New(link.Error)
	}
}
