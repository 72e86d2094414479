// Package demo shows a tunnel and a gateway at work on loopback, in one process.
package demo

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"adit/auth"
	"adit/certs"
	"adit/client"
	"adit/internal/units"
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
server    wss://%s/tunnel   throw-away certificate, one user with a token
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

// startWebBackend starts an ordinary web server.
func (d *demo) startWebBackend() (addr string, err error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<!doctype html><title>adit demo</title><h1>It works</h1><p>This page came through the tunnel. The backend saw a connection from %s.</p>\n", r.RemoteAddr)
	})
	mux.HandleFunc("POST /digest", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		if _, err := io.Copy(h, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		io.WriteString(w, hex.EncodeToString(h.Sum(nil)))
	})
	mux.HandleFunc("GET /noise/{bytes}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.PathValue("bytes"), 10, 64)
		if err != nil || n < 0 {
			http.Error(w, "bad number of bytes", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		io.CopyN(w, noise(), n)
	})
	l, err := tunnel.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("start the web backend: %w", err)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	d.wg.Go(func() { srv.Serve(l) })
	d.wg.Go(func() { <-d.ctx.Done(); srv.Close() })
	return l.Addr().String(), nil
}

// noise returns the same random bytes each time.
func noise() io.Reader { return rand.NewChaCha8([32]byte{'a', 'd', 'i', 't'}) }

func (d *demo) startServer(web, lines string) error {
	cert, err := certs.Ephemeral(nil)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	d.pin = certs.PinOf(cert.Leaf)
	users, err := auth.NewUsers([]auth.User{{
		Name: "demo", TokenHash: auth.HashToken(d.token),
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
			d.Logger.Error("server", "error", err)
		}
	})
	return l.Addr().String(), nil
}

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
			d.Logger.Error("client", "error", err)
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

// proveTunnel sends data both ways through the tunnel and compares digests.
func (d *demo) proveTunnel() error {
	h := sha256.New()
	if _, err := io.CopyN(h, noise(), d.Bytes); err != nil {
		return err
	}
	want := hex.EncodeToString(h.Sum(nil))

	start := time.Now()
	got, err := d.upload()
	if err := d.judge("up", start, got, want, err); err != nil {
		return err
	}
	start = time.Now()
	got, err = d.download()
	return d.judge("down", start, got, want, err)
}

// judge prints how a transfer went.
func (d *demo) judge(way string, start time.Time, got, want string, err error) error {
	elapsed := time.Since(start)
	if err == nil && got != want {
		err = fmt.Errorf("the digest is %s, not %s", got, want)
	}
	if err != nil {
		fmt.Fprintf(d.Out, "✗ %-5s %v\n", way, err)
		return fmt.Errorf("transfer %s: %w", way, err)
	}
	fmt.Fprintf(d.Out, "✓ %-5s %s in %s, %s/s, sha256 %s…\n", way, units.Binary(d.Bytes), units.Short(elapsed), units.Binary(int64(float64(d.Bytes)/elapsed.Seconds())), got[:16])
	return nil
}

func (d *demo) upload() (digest string, err error) {
	r, err := http.NewRequestWithContext(d.ctx, http.MethodPost, "http://"+d.webLocal+"/digest", io.LimitReader(noise(), d.Bytes))
	if err != nil {
		return "", err
	}
	r.ContentLength = d.Bytes
	var answer []byte
	err = d.do(r, func(body io.Reader) (err error) {
		answer, err = io.ReadAll(io.LimitReader(body, 1024))
		return err
	})
	return string(answer), err
}

func (d *demo) download() (digest string, err error) {
	r, err := http.NewRequestWithContext(d.ctx, http.MethodGet, fmt.Sprintf("http://%s/noise/%d", d.webLocal, d.Bytes), nil)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	err = d.do(r, func(body io.Reader) error {
		_, err := io.CopyBuffer(h, body, make([]byte, 64<<10))
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// do makes a request on a new connection, never through a proxy.
func (d *demo) do(r *http.Request, read func(io.Reader) error) error {
	t := &http.Transport{DisableKeepAlives: true}
	defer t.CloseIdleConnections()
	resp, err := t.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the backend answers %s", resp.Status)
	}
	return read(resp.Body)
}

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
