// Package statusview asks running servers and clients for their status over the
// admin endpoint and shows it in a terminal.
package statusview

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"adit/admin"
	"adit/internal/config"
	"adit/internal/hint"
	"adit/internal/logline"
)

// ServiceSockets are the patterns of the admin sockets of the shipped systemd
// units.
var ServiceSockets = []string{"/run/adit/admin.sock", "/run/adit-standby/admin.sock", "/run/adit-client/*/admin.sock"}

// Source is one server or client that can be asked.
type Source struct {
	address config.Address
	client  *http.Client

	// The previous answer, for rates: one of the two, or neither.
	previousServer *admin.ServerDocument
	previousClient *admin.ClientDocument
}

const (
	// answerTimeout bounds the time for one answer.
	answerTimeout = 10 * time.Second
	// maxAnswer bounds the size of one answer. A thousand sessions take 400 kB.
	maxAnswer = 256 << 20
)

// NewSource returns the source at an admin address.
func NewSource(a config.Address) *Source {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, a.Network, a.Address)
	}
	return &Source{address: a, client: &http.Client{
		Transport: &http.Transport{DialContext: dial, DisableCompression: true},
		Timeout:   answerTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the answer is a redirect")
		},
	}}
}

// FindSources returns a source for each socket that one of the patterns matches.
// It is an error if there is none.
func FindSources(patterns []string) ([]*Source, error) {
	var found []*Source
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			found = append(found, NewSource(config.Address{Network: "unix", Address: path}))
		}
	}
	if len(found) == 0 {
		return nil, hint.Errorf(
			"start adit as a systemd service, or with --admin-listen unix:/run/user/1000/adit.sock, and name that: adit status --admin unix:/run/user/1000/adit.sock",
			"there is no %s", strings.Join(patterns, ", "))
	}
	return found, nil
}

// fetch returns the JSON of /status.
func (s *Source) fetch(ctx context.Context) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/status", nil)
	if err != nil {
		return nil, err
	}
	reply, err := s.client.Do(r)
	if err != nil {
		return nil, s.fault(err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxAnswer+1))
	if err != nil {
		return nil, s.fault(err)
	}
	if reply.StatusCode != http.StatusOK || len(body) > maxAnswer || !json.Valid(body) {
		return nil, hint.Errorf("check that this is the --admin-listen address of adit, not of another program",
			"%s answers %s, without a status", s.address, logline.Printable(reply.Status))
	}
	return body, nil
}

// errNotReady is the fault of a source that answers, but is not ready.
var errNotReady = errors.New("not ready")

// writeReady writes whether the process is ready. It returns an error if it is not.
func (s *Source) writeReady(b *bytes.Buffer, body []byte) error {
	var h admin.Head
	if err := json.Unmarshal(body, &h); err != nil {
		return fmt.Errorf("read the status of %s: %w", s.address, err)
	}
	if !h.Ready {
		return fmt.Errorf("%s at %s is %w: %s", cmp.Or(logline.Printable(h.Role), "adit"), s.address, errNotReady, logline.Printable(h.Reason))
	}
	fmt.Fprintf(b, "%s at %s is ready\n", cmp.Or(logline.Printable(h.Role), "adit"), s.address)
	return nil
}

// fault says which source cannot be asked, why, and what to do.
func (s *Source) fault(err error) error {
	for errors.Unwrap(err) != nil { // the URL is not what the user named
		err = errors.Unwrap(err)
	}
	advice := "is it running? systemctl status 'adit-*' shows; or name its --admin-listen address with --admin"
	switch {
	case errors.Is(err, fs.ErrPermission):
		advice = "only root and the user that adit runs as may ask: sudo adit status"
	case errors.Is(err, syscall.ECONNREFUSED) && s.address.Network == "unix":
		advice = "the process that made this socket has ended without removing it: start adit again"
	}
	return hint.Errorf(advice, "ask %s: %w", s.address, err)
}
