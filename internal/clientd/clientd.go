// Package clientd assembles the client from its configuration and runs it as a
// process: forwards, admin endpoint, notifications to systemd, reload.
package clientd

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"os"
	"time"

	"adit/admin"
	"adit/client"
	"adit/internal/config"
	"adit/internal/daemon"
	"adit/internal/hint"
	"adit/mux"
	"adit/systemd"
	"adit/tunnel/dial"
)

// Options are what a Daemon gets from its process.
type Options struct {
	Sources config.Sources
	Getenv  func(string) string // os.Getenv
	Version string              // of adit, for the admin endpoint

	Stdin  io.Reader      // with -W, carried to the target
	Stdout io.WriteCloser // with -W, what the target sends
	Stderr io.Writer      // the log
}

// Daemon is a client that is ready to run.
type Daemon struct {
	Options
	cfg     *config.Client
	log     *slog.Logger
	linkLog *slog.Logger // of the link and its streams
	dial    *dial.Options
}

// New reads the configuration and the files that it names. The error lists every
// fault.
func New(o Options) (*Daemon, error) {
	d := &Daemon{Options: o}
	var faults config.Faults
	d.cfg, faults = config.LoadClient(o.Sources, true)
	silent := d.Stdio() && d.cfg.Origin("log-level") == "log-level"
	if silent {
		d.cfg.Log.Level = slog.LevelWarn
	}
	d.log, _ = daemon.NewLogger(d.cfg.Log, o.Stderr)
	d.linkLog = d.log
	if silent {
		// ssh's terminal shows it. What ends the client is in the error.
		d.linkLog = slog.New(slog.DiscardHandler)
	}
	var more config.Faults
	d.dial, more = DialOptions(d.cfg, o.Getenv, d.linkLog)
	return d, append(faults, more...).Err()
}

// Stdio reports whether the client carries its standard streams (-W) instead of
// listening.
func (d *Daemon) Stdio() bool { return !d.cfg.Stdio.IsZero() }

// Logger is the logger that the configuration asks for.
func (d *Daemon) Logger() *slog.Logger { return d.log }

// ConfigFile is the configuration file that was read, or "".
func (d *Daemon) ConfigFile() string { return d.cfg.File }

// Run runs the client until ctx ends, and returns nil then. A value on reload
// makes it check the link at once, and ends it with -W: ssh sends SIGHUP to its
// ProxyCommand when it ends.
func (d *Daemon) Run(ctx context.Context, reload <-chan os.Signal) error {
	if d.cfg.File != "" {
		d.log.Info("configuration read", "file", d.cfg.File)
	}
	for _, w := range Warnings(d.cfg, d.Getenv) {
		d.log.Warn("configuration warning", "warning", w)
	}
	c, err := d.newClient()
	if err != nil {
		return err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	finished := make(chan error, 1)
	stop := func(reason any) error {
		d.log.Info("stopping", "reason", reason)
		systemd.Stopping("")
		cancel()
		err := <-finished
		d.log.Info("stopped", "pid", os.Getpid())
		return err
	}
	if d.Stdio() {
		go func() { finished <- c.Stdio(running, Target(d.cfg.Stdio), d.Stdin, d.Stdout) }()
	} else {
		if err := c.Listen(); err != nil {
			if advice := daemon.ListenHint(err, "-L 15432:db.lan:5432"); advice != "" {
				return hint.With(err, advice)
			}
			return hint.File(err, "choose another port or path: -L 15432:db.lan:5432")
		}
		what := admin.Config{Client: c, Version: d.Version}
		stopAdmin, err := daemon.StartAdmin(d.cfg.Admin, d.Getenv("RUNTIME_DIRECTORY"), what, d.log)
		if err != nil {
			return err
		}
		defer stopAdmin()
		stopMetrics, err := daemon.StartMetrics(d.cfg.Metrics, what, d.log)
		if err != nil {
			return err
		}
		defer stopMetrics()
		// Before Run, which reports a newer status.
		if err := systemd.Ready("connecting"); err != nil {
			d.log.Warn("systemd notification failed", "error", err)
		}
		go func() { finished <- c.Run(running) }()
		go daemon.Watchdog(running, c.Healthy, d.log)
	}
	for {
		select {
		case err := <-finished:
			return err
		case sig := <-reload:
			if d.Stdio() {
				return stop("signal: " + sig.String())
			}
			systemd.Reloading()
			d.log.Info("probing the link")
			c.Reconnect()
			systemd.Ready("")
		case <-ctx.Done():
			return stop(context.Cause(ctx))
		}
	}
}

// newClient makes the client, with the sockets that systemd handed over.
func (d *Daemon) newClient() (*client.Client, error) {
	sockets, err := daemon.TakeSockets()
	if err != nil {
		return nil, err
	}
	forwards, err := clientForwards(d.cfg.Forwards, sockets)
	sockets.CloseUnused(d.log)
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{
		Servers:          d.cfg.Servers,
		Dial:             d.dial,
		Forwards:         forwards,
		LinkWait:         max(d.cfg.LinkWait, time.Nanosecond), // 0: not at all, and there the default
		ExitOnRefusal:    d.cfg.ExitOnRefusal,
		RandomServer:     d.cfg.ServerOrder == "random",
		PreferInterval:   d.cfg.PreferInterval,
		MaxConnectionAge: d.cfg.MaxConnectionAge,
		Mux:              mux.Config{PingInterval: d.cfg.PingInterval, ResumeTimeout: cmp.Or(d.cfg.ResumeTimeout, -1)},
		Logger:           d.linkLog,
		OnState:          showState,
	})
}

// showState shows the state of the link in systemctl status.
func showState(s client.State) {
	switch {
	case s.Up:
		systemd.Status("connected to " + s.Server)
	case s.Err != nil:
		systemd.Status("not connected: " + s.Err.Error())
	}
}
