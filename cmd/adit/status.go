package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"

	"adit/admin"
	"adit/internal/config"
	"adit/internal/hint"
)

// defaultSockets are where the shipped units have their admin sockets.
var defaultSockets = []string{"/run/adit/" + adminSocket, "/run/adit-standby/" + adminSocket, "/run/adit-client/*/" + adminSocket}

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [flags]",
		Short: "show what a running server or client does",
		Long: `Asks a running adit for its sessions, streams, bytes and round-trip times, and
for what it refused. Without --admin it asks all services of this machine that
systemd runs: ` + strings.Join(defaultSockets, ", ") + `.

Any other adit can be asked that runs with --admin-listen. In a browser the same
is at its root, and for Prometheus at /metrics, if it listens on loopback TCP.
Only root and the user that adit runs as can ask a unix socket. Exit status: 0
answered, 1 not, 2 bad command line.`,
		Example: `  adit status
  adit status --admin unix:/run/user/1000/adit.sock --watch
  adit status --json | jq '.sessions[] | {user, address, streams}'`,
		Args: noArgs,
	}
	address := cmd.Flags().String("admin", "", "ask here: unix:PATH or HOST:PORT, as --admin-listen of the one to ask")
	watch := cmd.Flags().BoolP("watch", "w", false, "show it anew every --interval, with rates, until interrupted")
	asJSON := cmd.Flags().Bool("json", false, "print the JSON of /status, with --watch one document a line")
	interval := cmd.Flags().Duration("interval", 2*time.Second, "how often with --watch")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *interval < 100*time.Millisecond {
			return badUsage("write 100ms or more, e.g. --interval 5s", "--interval %v is too short", *interval)
		}
		sources, err := statusSources(*address)
		if err != nil {
			return err
		}
		v := &statusView{out: cmd.OutOrStdout(), sources: sources, json: *asJSON, watch: *watch}
		return v.run(cmd.Context(), *interval)
	}
	return cmd
}

// statusSources are the admin addresses to ask.
func statusSources(given string) ([]*statusSource, error) {
	if given != "" {
		a, err := config.ParseTarget(given)
		if err != nil {
			return nil, badUsage("write unix:/run/adit/admin.sock or 127.0.0.1:9090", "--admin: %w", err)
		}
		return []*statusSource{newStatusSource(a)}, nil
	}
	var found []*statusSource
	for _, pattern := range defaultSockets {
		paths, _ := filepath.Glob(pattern) // the patterns are good
		for _, path := range paths {
			found = append(found, newStatusSource(config.Address{Network: "unix", Address: path}))
		}
	}
	if len(found) == 0 {
		return nil, hint.Errorf(
			"start adit as a systemd service, or with --admin-listen unix:/run/user/1000/adit.sock, and name that: adit status --admin unix:/run/user/1000/adit.sock",
			"there is no %s", strings.Join(defaultSockets, ", "))
	}
	return found, nil
}

// statusSource is one adit that can be asked.
type statusSource struct {
	address config.Address
	client  *http.Client
	// The last answer, for rates: a server's or a client's.
	before *admin.ServerDocument
	then   *admin.ClientDocument
}

// statusTimeout bounds one answer.
const statusTimeout = 10 * time.Second

// maxStatus bounds the size of one answer. A thousand sessions take 400 kB.
const maxStatus = 256 << 20

func newStatusSource(a config.Address) *statusSource {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, a.Network, a.Address)
	}
	return &statusSource{address: a, client: &http.Client{
		Transport: &http.Transport{DialContext: dial, DisableCompression: true},
		Timeout:   statusTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("it answers with a redirect")
		},
	}}
}

// fetch returns the JSON of /status.
func (s *statusSource) fetch(ctx context.Context) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/status", nil)
	if err != nil {
		return nil, err
	}
	reply, err := s.client.Do(r)
	if err != nil {
		return nil, s.fault(err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxStatus+1))
	if err != nil {
		return nil, s.fault(err)
	}
	if reply.StatusCode != http.StatusOK || len(body) > maxStatus || !json.Valid(body) {
		return nil, hint.Errorf("is it the --admin-listen address of an adit, and not another program's?", "%s answers %s, and not with a status", s.address, printableText(reply.Status))
	}
	return body, nil
}

func (s *statusSource) fault(err error) error {
	for errors.Unwrap(err) != nil { // the URL says nothing, and the address is named here
		err = errors.Unwrap(err)
	}
	advice := "is it running? systemctl status 'adit-*' shows; or name its --admin-listen address with --admin"
	switch {
	case errors.Is(err, fs.ErrPermission):
		advice = "only root and the user that adit runs as may ask: sudo adit status"
	case errors.Is(err, syscall.ECONNREFUSED) && s.address.Network == "unix":
		advice = "nobody listens on this socket any more: adit has ended without removing it, start it again"
	}
	return hint.Errorf(advice, "ask %s: %w", s.address, err)
}

// statusView shows what the sources say.
type statusView struct {
	out         io.Writer
	sources     []*statusSource
	json, watch bool
}

func (v *statusView) run(ctx context.Context, interval time.Duration) error {
	fault := v.show(ctx)
	if fault != nil || !v.watch {
		return fault
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		// What restarts will be back.
		if err := v.show(ctx); err != nil {
			if _, err := fmt.Fprintln(v.out, printableText(err.Error())); err != nil {
				return err
			}
		}
	}
}

// clearScreen moves to the top of the terminal and clears it.
const clearScreen = "\x1b[H\x1b[2J"

// show asks and shows all sources once.
func (v *statusView) show(ctx context.Context) error {
	var b bytes.Buffer
	var faults []error
	for i, s := range v.sources {
		body, err := s.fetch(ctx)
		if err == nil && v.json {
			err = v.writeJSON(&b, body)
		} else if err == nil {
			if i > 0 {
				b.WriteByte('\n')
			}
			err = s.writeTable(&b, body)
		}
		if err != nil {
			faults = append(faults, err)
		}
	}
	if v.watch && !v.json {
		if isTerminal(v.out) {
			io.WriteString(v.out, clearScreen)
		} else {
			b.WriteByte('\n')
		}
	}
	if _, err := v.out.Write(b.Bytes()); err != nil {
		return err
	}
	if len(faults) == 1 {
		return faults[0]
	}
	return errors.Join(faults...)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&fs.ModeCharDevice != 0
}

// writeJSON writes a document such that a terminal shows all of it: JSON escapes
// some control characters only.
func (v *statusView) writeJSON(b *bytes.Buffer, body []byte) error {
	var shaped bytes.Buffer
	shape := func() error { return json.Indent(&shaped, body, "", "  ") }
	if v.watch {
		shape = func() error { return json.Compact(&shaped, body) }
	}
	if err := shape(); err != nil {
		return err
	}
	for _, r := range strings.TrimSpace(shaped.String()) {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(b, `\u%04x`, r)
		}
	}
	b.WriteByte('\n')
	return nil
}

// printableText makes text of another program fit for a terminal.
func printableText(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
