// Package demo shows a tunnel and a gateway at work on loopback, in one process.
package demo

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"

	"adit/auth"
	"adit/certs"
	"adit/client"
	"adit/mux"
	"adit/server"
	"adit/server/demopage"
	"adit/tunnel"
	"adit/tunnel/dial"
)

// Options are those of Run.
type Options struct {
	Out     io.Writer
	Logger  *slog.Logger // of server and client
	Bytes   int64        // to send each way
	Once    bool         // return after the proof
	Command string       // how to run adit from a shell, for the text of what to try
}

// demo is everything that the demonstration runs.
type demo struct {
	Options
	ctx context.Context
	wg  sync.WaitGroup

	pin        certs.Pin
	token      string
	serverAddr string // of the gateway
	plainAddr  string // of the same gateway, without TLS
	webLocal   string // the client's port that leads to the web backend
	sshLocal   string // the client's port that leads to this machine's sshd
}

// Run starts backends, a server and a client on loopback, sends data through them
// and compares digests. Then it prints what to try and keeps running until ctx
// ends, unless Once is set.
func Run(ctx context.Context, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	d := &demo{Options: o, ctx: ctx, token: auth.NewToken()}
	defer func() { cancel(); d.wg.Wait() }()
	web, err := d.startWebBackend()
	if err != nil {
		return err
	}
	lines, err := d.startJSONBackend()
	if err != nil {
		return err
	}
	if err := d.startServer(web, lines); err != nil {
		return err
	}
	if err := d.startClient(); err != nil {
		return err
	}
	fmt.Fprintf(d.Out, `backend   http://%s, and tcp %s, which answers lines of JSON
server    wss://%s/tunnel   temporary certificate, one user with a token
          wss://%[3]s/json     a route to the lines of JSON, for everyone
client    127.0.0.1 ports below, pinned to %s

`, web, lines, d.serverAddr, d.pin)
	if err := d.proveTunnel(); err != nil {
		return err
	}
	if err := d.proveRoute(); err != nil {
		return err
	}
	if o.Once {
		return nil
	}
	d.printIdeas()
	<-ctx.Done()
	return nil
}

// startServer starts the gateway, with TLS and without.
func (d *demo) startServer(web, lines string) error {
	cert, err := certs.Ephemeral(nil)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	d.pin = certs.PinOf(cert.Leaf)
	users, err := auth.NewUsers([]auth.User{{
		Name: "demo", TokenHashes: []string{auth.HashToken(d.token)},
		Allow: []string{"web", "127.0.0.1:22"},
	}})
	if err != nil {
		return err
	}
	s, err := server.New(server.Config{
		Site:   demopage.Handler(demoPage, []string{demoRoute}, server.DefaultSite()),
		Logger: d.Logger,
	}, server.Access{
		Users:   users,
		Targets: map[string]string{"web": web},
		Routes:  []server.Route{{Path: demoRoute, Backends: []string{lines}, FrameType: "text"}},
	})
	if err != nil {
		return err
	}
	d.wg.Go(func() {
		<-d.ctx.Done()
		s.Shutdown(d.ctx) // without draining: the context has ended
	})
	static := certs.Static(cert)
	if d.serverAddr, err = d.serve(s, certs.ServerConfig(&static, nil)); err != nil {
		return err
	}
	// A browser would warn of the certificate. Loopback needs no encryption.
	d.plainAddr, err = d.serve(s, nil)
	return err
}

// serve makes the server listen on a free loopback port.
func (d *demo) serve(s *server.Server, conf *tls.Config) (addr string, err error) {
	l, err := tunnel.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("start the server: %w", err)
	}
	d.wg.Go(func() {
		if err := s.Serve(l, conf); err != nil {
			d.Logger.Error("serve failed", "error", err)
		}
	})
	return l.Addr().String(), nil
}

// startClient starts a client that forwards to the web backend and to sshd.
func (d *demo) startClient() error {
	conf, err := certs.ClientConfig(certs.ClientOptions{Pins: []certs.Pin{d.pin}})
	if err != nil {
		return err
	}
	c, err := client.New(client.Config{
		Servers: []string{"wss://" + d.serverAddr + "/tunnel"},
		Dial:    d.dialOptions(conf),
		Forwards: []client.Forward{
			{Network: "tcp", Address: "127.0.0.1:0", Target: mux.Target{Kind: mux.Named, Address: "web"}},
			{Network: "tcp", Address: "127.0.0.1:0", Target: mux.Target{Kind: mux.TCP, Address: "127.0.0.1:22"}},
		},
		ExitOnRefusal: true,
		Logger:        d.Logger,
	})
	if err != nil {
		return err
	}
	if err := c.Listen(); err != nil {
		return fmt.Errorf("start the client: %w", err)
	}
	addrs := c.Addrs()
	d.webLocal, d.sshLocal = addrs[0].String(), addrs[1].String()
	d.wg.Go(func() {
		if err := c.Run(d.ctx); err != nil {
			d.Logger.Error("client failed", "error", err)
		}
	})
	return nil
}

func (d *demo) dialOptions(conf *tls.Config) *dial.Options {
	return &dial.Options{
		TLS:           conf,
		Authorization: func() (string, error) { return "Bearer " + d.token, nil },
	}
}

// printIdeas prints what to try.
func (d *demo) printIdeas() {
	_, sshPort, _ := net.SplitHostPort(d.sshLocal)
	fmt.Fprintf(d.Out, `
Try, until Ctrl-C:

  http://%[6]s%[7]s/
      in a browser: a page that sends JSON to the backend over a WebSocket

  curl http://%[1]s/
      the backend, through the tunnel; a browser shows it too

  ssh -p %[2]s 127.0.0.1
      this machine's own sshd, if it has one, through the tunnel

  curl -k https://%[3]s/
      what an unauthenticated client sees: an ordinary web site

  websocat --insecure --text wss://%[3]s%[8]s
      the same backend as the page's, from a shell; any WebSocket client will do

  export ADIT_TOKEN=%[4]s
  %[9]s client --pin %[5]s -L 8080:web wss://%[3]s/tunnel
      a client of your own; then curl http://127.0.0.1:8080/

  %[9]s check --pin %[5]s --target web wss://%[3]s/tunnel
      every hop on the way to the server, one line each
`, d.webLocal, sshPort, d.serverAddr, d.token, d.pin, d.plainAddr, demoPage, demoRoute, d.Command)
}
