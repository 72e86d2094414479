package main

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
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"adit/auth"
	"adit/certs"
	"adit/client"
	"adit/mux"
	"adit/server"
	"adit/server/demopage"
	"adit/tunnel"
	"adit/tunnel/dial"
)

func demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "a complete tunnel and gateway on this machine, to see and to try",
		Long: `Starts a server with throw-away keys, a client pinned to it, a small web backend
and one that answers lines of JSON, all on loopback and in this one process;
sends data through the tunnel both ways and compares digests, and a line of JSON
through a plain WebSocket; then stays up, with a page for the browser, and says
what to try. Nothing is written to disk and nothing is reachable from outside.`,
		Example: `  adit demo
  adit demo --once --size 1024      prove it with 1 GiB each way and exit`,
		Args: noArgs,
	}
	mib := cmd.Flags().Int("size", 256, "MiB to send each way")
	once := cmd.Flags().Bool("once", false, "exit after the proof")
	verbose := cmd.Flags().BoolP("verbose", "v", false, "show the logs of server and client")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *mib < 1 || *mib > 1<<20 {
			return badUsage("write a number of MiB, e.g. --size 256", "--size %d is out of range", *mib)
		}
		log := slog.New(slog.DiscardHandler)
		if *verbose {
			log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
		}
		// SIGHUP keeps its meaning: the demo goes with its terminal.
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err := runDemo(ctx, cmd.OutOrStdout(), log, int64(*mib)<<20, *once)
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return cmd
}

// demo is everything that the demonstration runs.
type demo struct {
	ctx context.Context
	log *slog.Logger
	out io.Writer
	wg  sync.WaitGroup

	pin        certs.Pin
	token      string
	serverAddr string // of the gateway
	plainAddr  string // of the same, without TLS
	webLocal   string // the client's port that leads to the backend
	sshLocal   string // the client's port that leads to this machine's sshd
}

func runDemo(ctx context.Context, out io.Writer, log *slog.Logger, bytes int64, once bool) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	d := &demo{ctx: ctx, log: log, out: out, token: auth.NewToken()}
	defer func() { cancel(); d.wg.Wait() }()
	backend, err := d.startBackend()
	if err != nil {
		return err
	}
	lines, err := d.startLines()
	if err != nil {
		return err
	}
	if err := d.startServer(backend, lines); err != nil {
		return err
	}
	if err := d.startClient(); err != nil {
		return err
	}
	fmt.Fprintf(out, `backend   http://%s, and tcp %s, which answers lines of JSON
server    wss://%s/tunnel   throw-away certificate, one user with a token
          wss://%[3]s/json     a route to the lines of JSON, for everyone
client    127.0.0.1 ports below, pinned to %s

`, backend, lines, d.serverAddr, d.pin)
	if err := d.prove(bytes); err != nil {
		return err
	}
	if err := d.proveRoute(); err != nil {
		return err
	}
	if once {
		return nil
	}
	d.printIdeas()
	<-ctx.Done()
	return nil
}

// startBackend starts a web server that knows nothing of the tunnel.
func (d *demo) startBackend() (addr string, err error) {
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
		return "", fmt.Errorf("start the backend: %w", err)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	d.wg.Go(func() { srv.Serve(l) })
	d.wg.Go(func() { <-d.ctx.Done(); srv.Close() })
	return l.Addr().String(), nil
}

// noise is the same random bytes each time.
func noise() io.Reader { return rand.NewChaCha8([32]byte{'a', 'd', 'i', 't'}) }

func (d *demo) startServer(backend, lines string) error {
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
		Logger: d.log,
	}, server.Access{
		Users:   users,
		Targets: map[string]string{"web": backend},
		Routes:  []server.Route{{Path: demoRoute, Backends: []string{lines}, FrameType: "text"}},
	})
	if err != nil {
		return err
	}
	d.wg.Go(func() {
		<-d.ctx.Done()
		s.Shutdown(d.ctx) // which has ended: at once
	})
	static := certs.Static(cert)
	if d.serverAddr, err = d.serve(s, certs.ServerConfig(&static, nil)); err != nil {
		return err
	}
	// A browser would warn of the certificate. On loopback nobody listens in.
	d.plainAddr, err = d.serve(s, nil)
	return err
}

// serve has the server listen on a loopback port.
func (d *demo) serve(s *server.Server, conf *tls.Config) (addr string, err error) {
	l, err := tunnel.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("start the server: %w", err)
	}
	d.wg.Go(func() {
		if err := s.Serve(l, conf); err != nil {
			d.log.Error("server", "error", err)
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
		Dial:    d.dialer(conf),
		Forwards: []client.Forward{
			{Network: "tcp", Address: "127.0.0.1:0", Target: mux.Target{Kind: mux.Named, Address: "web"}},
			{Network: "tcp", Address: "127.0.0.1:0", Target: mux.Target{Kind: mux.TCP, Address: "127.0.0.1:22"}},
		},
		ExitOnRefusal: true,
		Logger:        d.log,
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
			d.log.Error("client", "error", err)
		}
	})
	return nil
}

func (d *demo) dialer(conf *tls.Config) *dial.Options {
	return &dial.Options{
		TLS:           conf,
		Authorization: func() (string, error) { return "Bearer " + d.token, nil },
	}
}

// prove sends data both ways through the tunnel and compares digests.
func (d *demo) prove(bytes int64) error {
	h := sha256.New()
	if _, err := io.CopyN(h, noise(), bytes); err != nil {
		return err
	}
	want := hex.EncodeToString(h.Sum(nil))

	start := time.Now()
	got, err := d.upload(bytes)
	if err := d.judge("up", bytes, start, got, want, err); err != nil {
		return err
	}
	start = time.Now()
	got, err = d.download(bytes)
	return d.judge("down", bytes, start, got, want, err)
}

func (d *demo) judge(way string, bytes int64, start time.Time, got, want string, err error) error {
	elapsed := time.Since(start)
	if err == nil && got != want {
		err = fmt.Errorf("the digest is %s, not %s", got, want)
	}
	if err != nil {
		fmt.Fprintf(d.out, "✗ %-5s %v\n", way, err)
		return fmt.Errorf("transfer %s: %w", way, err)
	}
	fmt.Fprintf(d.out, "✓ %-5s %s in %s, %s/s, sha256 %s…\n", way, size(bytes), rounded(elapsed), size(int64(float64(bytes)/elapsed.Seconds())), got[:16])
	return nil
}

func (d *demo) upload(bytes int64) (digest string, err error) {
	r, err := http.NewRequestWithContext(d.ctx, http.MethodPost, "http://"+d.webLocal+"/digest", io.LimitReader(noise(), bytes))
	if err != nil {
		return "", err
	}
	r.ContentLength = bytes
	var answer []byte
	err = d.do(r, func(body io.Reader) (err error) {
		answer, err = io.ReadAll(io.LimitReader(body, 1024))
		return err
	})
	return string(answer), err
}

func (d *demo) download(bytes int64) (digest string, err error) {
	r, err := http.NewRequestWithContext(d.ctx, http.MethodGet, fmt.Sprintf("http://%s/noise/%d", d.webLocal, bytes), nil)
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

// do makes a request on a connection of its own, never through a proxy.
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
	fmt.Fprintf(d.out, `
Try, until Ctrl-C:

  http://%[6]s%[7]s/
      in a browser: a page that sends JSON to the backend over a WebSocket

  curl http://%[1]s/
      the backend, through the tunnel; a browser shows it too

  ssh -p %[2]s 127.0.0.1
      this machine's own sshd, if it has one, through the tunnel

  curl -k https://%[3]s/
      what a stranger sees of the server: an ordinary web site

  websocat --insecure --text wss://%[3]s%[8]s
      the same backend as the page's, from a shell; any WebSocket client will do

  export ADIT_TOKEN=%[4]s
  %[9]s client --pin %[5]s -L 8080:web wss://%[3]s/tunnel
      a client of your own; then curl http://127.0.0.1:8080/

  %[9]s check --pin %[5]s --target web wss://%[3]s/tunnel
      every hop of the way, one line each
`, d.webLocal, sshPort, d.serverAddr, d.token, d.pin, d.plainAddr, demoPage, demoRoute, command())
}

// command is how to run this program from a shell.
func command() string {
	path, err := os.Executable()
	if err != nil {
		return "adit"
	}
	if found, err := exec.LookPath("adit"); err == nil && found == path {
		return "adit"
	}
	if strings.Contains(filepath.ToSlash(path), "/go-build") { // go run deletes it in the end
		return "go run ./cmd/adit"
	}
	return path
}
