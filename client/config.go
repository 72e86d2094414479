package client

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"adit/mux"
	"adit/tunnel/dial"
)

// Forward is a local listener and the target that its connections reach.
type Forward struct {
	Network string // "tcp" or "unix"; unused if Listener is set
	Address string // HOST:PORT or a path; unused if Listener is set
	// Listener, if not nil, is used instead of opening one. Run closes it.
	Listener net.Listener
	Target   mux.Target
}

// Config configures a Client. Servers and Dial must be set.
type Config struct {
	// Servers are the URLs to try, in order, until one works.
	Servers  []string
	Dial     *dial.Options
	Forwards []Forward

	// RandomServer tries the servers in random order. If it is false, an earlier
	// server is preferred, even while the client is connected to a later one.
	RandomServer bool
	// PreferInterval is how often a client that is connected to a later server
	// probes the earlier ones. If one answers, new streams go there. 0 means 1 min.
	PreferInterval time.Duration
	// MaxConnectionAge is the age at which the session migrates to a new
	// connection, up to a tenth earlier, so that proxies that cut connections at
	// a fixed age interrupt nothing. Without resumption only new streams migrate.
	// 0 means no limit.
	MaxConnectionAge time.Duration

	// MigrationInterval is the least time between two migrations that a server
	// asks for, and between two sessions made without a pause because a server
	// goes away. 0 means 10 s.
	MigrationInterval time.Duration

	// LinkWait is how long an accepted connection waits for a session before it
	// is reset. 0 means 10 s.
	LinkWait time.Duration
	// BackoffMin and BackoffMax bound the pause between two rounds of attempts.
	// It doubles from round to round, and up to half of it is then taken away at
	// random. While streams wait for the session to resume it stays below 5 s.
	// 0 means 200 ms and 30 s.
	BackoffMin, BackoffMax time.Duration
	// WatchInterval is how often the client checks whether the machine's network
	// changed or the machine slept. 0 means 2 s.
	WatchInterval time.Duration
	// ExitOnRefusal makes Run return ErrRefused once every server refuses the
	// client permanently. If it is false, the client keeps trying.
	ExitOnRefusal bool

	// Mux configures the sessions. Its Logger is replaced by the one below.
	// Streams survive the loss of a connection for Mux.ResumeTimeout.
	Mux mux.Config
	// Logger receives one line for each event that a user can act on. nil
	// discards them.
	Logger *slog.Logger
	// OnState, if not nil, is called when the client gains or loses a session's
	// connection, and after each failed attempt to connect. It must not block.
	OnState func(State)
}

// State tells whether new streams can be opened.
type State struct {
	Up     bool
	Server string // the server of the session, or the one tried last
	Err    error  // why Up is false; nil before the first attempt has failed
}

// withDefaults returns a copy of cfg that is complete, or the first fault.
func (cfg Config) withDefaults() (Config, error) {
	if len(cfg.Servers) == 0 {
		return Config{}, errors.New("no server configured")
	}
	if cfg.Dial == nil {
		return Config{}, errors.New("no dial options configured")
	}
	for _, f := range cfg.Forwards {
		if err := f.Target.Validate(); err != nil {
			return Config{}, fmt.Errorf("forward to %s: %w", f.Target, err)
		}
	}
	setDefault(&cfg.LinkWait, 10*time.Second)
	setDefault(&cfg.BackoffMin, 200*time.Millisecond)
	setDefault(&cfg.BackoffMax, 30*time.Second)
	setDefault(&cfg.WatchInterval, 2*time.Second)
	setDefault(&cfg.PreferInterval, time.Minute)
	setDefault(&cfg.MigrationInterval, 10*time.Second)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.OnState == nil {
		cfg.OnState = func(State) {}
	}
	cfg.Mux.Logger = cfg.Logger
	// The link uses only the answer to its newest ping.
	options := *cfg.Dial
	options.Conn.LatestPongOnly = true
	options.Addresses = cmp.Or(options.Addresses, new(dial.Addresses))
	cfg.Dial = &options
	return cfg, nil
}

func setDefault(v *time.Duration, d time.Duration) {
	if *v == 0 {
		*v = d
	}
}
