package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"adit/admin"
	"adit/client"
	"adit/internal/config"
	"adit/internal/hint"
	"adit/mux"
	"adit/systemd"
)

func clientCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "client [flags] wss://HOST[:PORT][/PATH] ...",
		Short: "listen locally and connect through a server",
		Long: `Listens on local ports and sockets, and carries every connection to its target
through one WebSocket connection to the server. It never gives up: while the
network is away it tries again, and new connections wait for --link-wait. (With
-W, the first attempt has to succeed.) A
forward listens on 127.0.0.1 unless it names an address; '*:8080:…', and as with
ssh ':8080:…', is open to whoever reaches this machine.

Several servers are tried in order. Flags have variables (--token-file is
ADIT_TOKEN_FILE) and keys in the configuration file; a flag wins over the
variable, the variable over the file. SIGHUP makes it look at the link at once.

The token comes from --token-file or the variable ADIT_TOKEN, never from a flag:
others could read it. Exit status: 0 stopped, 1 failed, 2 bad configuration.`,
		Example: `  adit client -L 5432:db.lan:5432 --token-file token wss://gw.example.com/tunnel
      psql -h 127.0.0.1 then reaches db.lan, as the server sees it

  adit client -L 2222:ssh -L '*:8080:10.0.0.5:80' --token-file token wss://gw.example.com
      a target that the server names, and a port open to the local network

  adit client -L /run/db.sock:/run/postgresql/.s.PGSQL.5432 --config client.toml
      unix sockets on both sides

  ssh -o ProxyCommand='adit client --token-file token -W %h:%p wss://gw.example.com' host
      no local port at all

  HTTPS_PROXY=http://proxy.corp:3128 adit client --config /etc/adit/client.toml
      through a company's proxy, with a configuration file such as

      server = ["wss://gw.example.com/tunnel"]
      token-file = "/etc/adit/token"
      forward = ["2222:ssh", "127.0.0.1:5432:db.lan:5432"]
      [tls]
      pin = ["sha256:…"]          # of a self-signed server: adit pin`,
	}
	config.ClientFlags(cmd.Flags())
	check := checkConfigFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return runClient(cmd, args, *check)
	}
	return cmd
}

func runClient(cmd *cobra.Command, args []string, checkOnly bool) error {
	c, faults := config.LoadClient(sources(cmd, args), true)
	interactive := !c.Stdio.IsZero()
	if interactive && c.Origin("log-level") == "log-level" {
		c.Log.Level = slog.LevelWarn // ssh shows what its ProxyCommand says
	}
	log, _ := newLogger(c.Log, cmd.ErrOrStderr())
	dialer, more := newDialer(c, log)
	if err := append(faults, more...).Err(); err != nil {
		return err
	}
	if checkOnly {
		_, err := cmd.OutOrStdout().Write([]byte("the configuration is good\n"))
		return err
	}
	for _, w := range warnings(c) {
		log.Warn(w)
	}
	sockets, err := takeSockets()
	if err != nil {
		return err
	}
	forwards, err := clientForwards(c.Forwards, sockets)
	for _, name := range sockets.closeRest() {
		log.Warn("systemd handed over a socket that no forward uses", "name", name)
	}
	if err != nil {
		return err
	}
	cl, err := client.New(client.Config{
		Servers:  c.Servers,
		Dial:     dialer,
		Forwards: forwards,
		// Zero means the default there, and "not at all" here.
		LinkWait:         max(c.LinkWait, time.Nanosecond),
		ExitOnRefusal:    c.ExitOnRefusal,
		RandomServer:     c.ServerOrder == "random",
		PreferInterval:   c.PreferInterval,
		MaxConnectionAge: c.MaxConnectionAge,
		Mux:              mux.Config{PingInterval: c.PingInterval, ResumeTimeout: orNever(c.ResumeTimeout)},
		Logger:           log,
		OnState:          showState,
	})
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	reload, stop, release := signals()
	defer release()
	finished := make(chan error, 1)
	if interactive {
		go func() { finished <- cl.Stdio(ctx, muxTarget(c.Stdio), os.Stdin, os.Stdout) }()
	} else {
		outlivePipes()
		if err := cl.Listen(); err != nil {
			return hint.File(err, "choose another port or path: -L 15432:db.lan:5432; ss -ltnp shows who has it")
		}
		stopAdmin, err := startAdmin(c.Admin, admin.Config{Client: cl}, log)
		if err != nil {
			return err
		}
		defer stopAdmin()
		// Before Run, which has a newer status to tell.
		if err := systemd.Ready("connecting"); err != nil {
			log.Warn("systemd is not told", "error", err)
		}
		go func() { finished <- cl.Run(ctx) }()
		go watchdog(ctx, cl.Healthy, log)
	}
	for {
		select {
		case err := <-finished:
			return explainRefusal(err)
		case <-reload:
			systemd.Reloading()
			log.Info("looking at the link")
			cl.Reconnect()
			systemd.Ready("")
		case <-stop:
			systemd.Stopping("")
			exitOnSecond(stop, make(chan struct{}), log)
			cancel()
			return <-finished
		}
	}
}

// orNever is a time of the configuration as mux wants it: 0 means there that
// there is none, and here the default.
func orNever(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// clientForwards converts the forwards and gives those that listen on sockets
// of systemd's their listeners.
func clientForwards(list []config.Forward, sockets handedOver) ([]client.Forward, error) {
	var out []client.Forward
	for _, f := range list {
		target := muxTarget(f.Target)
		if f.Listen.Network != "systemd" {
			out = append(out, client.Forward{Network: f.Listen.Network, Address: f.Listen.Address, Target: target})
			continue
		}
		ls, err := sockets.take(f.Listen.Address)
		if err != nil {
			for _, o := range out {
				if o.Listener != nil {
					o.Listener.Close()
				}
			}
			return nil, err
		}
		for _, l := range ls {
			out = append(out, client.Forward{Listener: l, Target: target})
		}
	}
	return out, nil
}

// showState tells systemctl status how the link is.
func showState(s client.State) {
	switch {
	case s.Up:
		systemd.Status("connected to " + s.Server)
	case s.Err != nil:
		systemd.Status("not connected: " + s.Err.Error())
	}
}

// watchdog tells systemd, if it wants to know, that this end makes progress.
func watchdog(ctx context.Context, healthy func(context.Context) error, log *slog.Logger) {
	err := systemd.Watchdog(ctx, healthy, func(err error) {
		log.Error("the watchdog is not fed", "error", err)
	})
	if err != nil {
		log.Warn("the watchdog is not fed", "error", err)
	}
}

// explainRefusal adds to a stream's refusal what to do about it.
func explainRefusal(err error) error {
	var refused *mux.RefusedError
	if errors.As(err, &refused) && hint.Of(err) == "" {
		return hint.With(err, refusalHint(refused.Code))
	}
	return err
}

// refusalHint says what to do when the server does not connect to a target.
func refusalHint(c mux.Code) string {
	switch c {
	case mux.Forbidden:
		return "the server's policy must list the target in the user's allow = […]"
	case mux.Refused:
		return "the server reached the target's machine, but nothing listens on that port"
	case mux.Unreachable:
		return "the server has no route to the target: check the address as the server sees it"
	case mux.Timeout:
		return "the target does not answer the server: a firewall, or a wrong address"
	case mux.NotFound:
		return "the server does not know this name: check its spelling, the server's DNS, and its [[target]] tables"
	case mux.Busy:
		return "a limit is reached: try again, or raise the limits on the server"
	case mux.GoingAway:
		return "the server is stopping: try again"
	}
	return "see the server's log"
}
