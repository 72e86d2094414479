// Package client is the near end of the tunnel: it listens, keeps one link to
// a server up, and turns every connection that it accepts into a stream.
package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"adit/internal/progress"
	"adit/mux"
	"adit/tunnel"
)

// Forward is a place to listen and what its connections are to reach.
type Forward struct {
	Network string // "tcp" or "unix"
	Address string // HOST:PORT or a path, where Listener is nil
	// Listener is used, if it is not nil; Run closes it.
	Listener net.Listener
	Target   mux.Target

	counters *forwardCounters // set by New
}

// Config is a client's. Servers and Dialer must be set.
type Config struct {
	// Servers are the URLs to try, in order, until one works.
	Servers  []string
	Dialer   *tunnel.Dialer
	Forwards []Forward

	// RandomServer tries the servers in random order. Else one that comes
	// earlier is preferred, also while a later one has the link.
	RandomServer bool
	// PreferInterval is how often the client looks whether a server that comes
	// before the present one is back. New streams then go there. Default 1 min.
	PreferInterval time.Duration
	// MaxConnectionAge is how old a connection may get: the link moves to a new
	// one, up to a tenth of the time earlier, for proxies that cut at a fixed
	// time. Without resumption only new streams do. Default: any age.
	MaxConnectionAge time.Duration

	// LinkWait is how long an accepted connection waits for the link when
	// that is down; then it is reset. Default 10 s.
	LinkWait time.Duration
	// BackoffMin and BackoffMax bound the pause between two rounds of
	// attempts; it doubles from one to the other, and up to half of it is then
	// taken away at random. While streams wait for the link it stays below 5 s.
	// Defaults 200 ms and 30 s.
	BackoffMin, BackoffMax time.Duration
	// WatchInterval is how often the client looks for signs of a new network
	// or of having slept. Default 2 s.
	WatchInterval time.Duration
	// ExitOnRefusal makes Run return when all servers refuse for good, instead
	// of trying on.
	ExitOnRefusal bool

	// Mux has the limits of sessions; its Logger is set from the field here.
	// Streams survive the loss of a connection for Mux.ResumeTimeout.
	Mux mux.Config
	// Logger gets one line for each event that a user acts on. Default:
	// discarded.
	Logger *slog.Logger
	// OnState, if not nil, is called whenever the link goes up or down, and
	// when it could not be made. It must return soon.
	OnState func(State)
}

// State is whether there is a link.
type State struct {
	Up     bool
	Server string // the one that the link is to, or was tried last
	Err    error  // why it is down; nil at first
}

// Client is the near end. Make one with New.
type Client struct {
	cfg  Config
	log  *slog.Logger
	kick chan struct{}

	progress progress.Monitor
	pulse    chan struct{} // see Healthy

	localAddrs func() []string                              // sorted; nil when unknown
	clocks     func() (wall time.Time, awake time.Duration) // awake stands still while the machine sleeps

	retired  sync.WaitGroup // sessions that only finish their streams
	counters *counters

	mu      sync.Mutex
	session *mux.Session  // nil while the link is down
	changed chan struct{} // closed when session changes
}

// New makes a client; it does nothing before Listen, Run or Stdio.
func New(cfg Config) (*Client, error) {
	if len(cfg.Servers) == 0 {
		return nil, errors.New("no server to connect to")
	}
	if cfg.Dialer == nil {
		return nil, errors.New("no dialer")
	}
	for _, f := range cfg.Forwards {
		if err := f.Target.Validate(); err != nil {
			return nil, fmt.Errorf("forward to %s: %w", f.Target, err)
		}
	}
	orDefault(&cfg.LinkWait, 10*time.Second)
	orDefault(&cfg.BackoffMin, 200*time.Millisecond)
	orDefault(&cfg.BackoffMax, 30*time.Second)
	orDefault(&cfg.WatchInterval, 2*time.Second)
	orDefault(&cfg.PreferInterval, time.Minute)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.OnState == nil {
		cfg.OnState = func(State) {}
	}
	cfg.Mux.Logger = cfg.Logger
	// The link answers the newest ping only, so that pings cannot pile up.
	dialer := *cfg.Dialer
	dialer.LatestPongOnly = true
	cfg.Dialer = &dialer
	cfg.Forwards = append([]Forward(nil), cfg.Forwards...)
	for i := range cfg.Forwards {
		cfg.Forwards[i].counters = newForwardCounters()
	}
	c := &Client{
		cfg: cfg, log: cfg.Logger,
		kick: make(chan struct{}, 1), changed: make(chan struct{}), pulse: make(chan struct{}),
		localAddrs: localAddrs, clocks: clocks, counters: newCounters(),
	}
	c.cfg.OnState = c.noteState(cfg.OnState)
	return c, nil
}

func orDefault(v *time.Duration, d time.Duration) {
	if *v == 0 {
		*v = d
	}
}

// Listen opens the listeners of all forwards, or none: the error names the
// forward that cannot be had. Run does it if it has not been done.
func (c *Client) Listen() error {
	var opened []*Forward
	for i := range c.cfg.Forwards {
		f := &c.cfg.Forwards[i]
		if f.Listener != nil {
			continue
		}
		ln, err := listen(f.Network, f.Address)
		if err != nil {
			for _, g := range opened {
				g.Listener.Close()
				g.Listener = nil
			}
			return fmt.Errorf("forward to %s: %w", f.Target, err)
		}
		f.Listener = ln
		opened = append(opened, f)
	}
	return nil
}

// Run serves the forwards until ctx is done, and then ends all streams and
// returns nil. The network is no reason to return; ErrRefused is, under
// ExitOnRefusal.
func (c *Client) Run(ctx context.Context) error {
	if err := c.Listen(); err != nil {
		for _, f := range c.cfg.Forwards {
			if f.Listener != nil {
				f.Listener.Close()
			}
		}
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, f := range c.cfg.Forwards {
		c.log.Info("listening", "forward", f.Target.String(), "addr", f.Listener.Addr().String())
		f.Listener = c.progress.Listener(f.Listener)
		wg.Go(func() { c.serve(ctx, f) })
	}
	err := c.upkeep(ctx)
	cancel()
	wg.Wait()
	return err
}

// Kick makes the client dial now, without waiting for a pause to end. A link
// that is up goes over to the new connection, and is asked for a sign of life
// meanwhile.
func (c *Client) Kick() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Addrs are the addresses that the forwards listen on, in their order, after
// Listen.
func (c *Client) Addrs() []net.Addr {
	var addrs []net.Addr
	for _, f := range c.cfg.Forwards {
		addrs = append(addrs, f.Listener.Addr())
	}
	return addrs
}
