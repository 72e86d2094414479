//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A measurement measures workloads with peers and records the samples. In each round, the peers of a
// path are started and then take turns with each workload: what disturbs the machine disturbs all of
// them alike, and a ratio is of two turns within seconds.
type measurement struct {
	workloads  []workload
	peers      []*peer
	takesPart  func(workload, *peer) bool
	set        settings
	congestion string // control of TCP in namespaces; "" means the machine's

	machine *host
	dir     string
	record  *record
}

// run measures for so many rounds.
func (m *measurement) run(ctx context.Context, rounds int) error {
	if err := raiseFileLimit(); err != nil {
		return err
	}
	var err error
	if m.dir, err = os.MkdirTemp("", "adit-bench-"); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(m.dir)
	m.machine = machine()
	defer m.machine.close()
	for round := range rounds {
		for _, together := range sharing(m.workloads) {
			if err := m.interleave(ctx, round, together); err != nil {
				return err
			}
		}
	}
	return nil
}

// sharing splits workloads into those that can use the same processes of the peers.
func sharing(workloads []workload) (all [][]workload) {
	for _, w := range workloads {
		i := slices.IndexFunc(all, func(s []workload) bool {
			return s[0].path == w.path && s[0].route == w.route && s[0].tls == w.tls && !s[0].alone && !w.alone
		})
		if i < 0 {
			all = append(all, []workload{w})
			continue
		}
		all[i] = append(all[i], w)
	}
	return all
}

// interleave measures workloads of one path once with every peer.
func (m *measurement) interleave(ctx context.Context, round int, workloads []workload) error {
	scene, err := newScene(ctx, m.machine, m.dir, workloads[0].path, m.congestion)
	if err != nil {
		return err
	}
	defer scene.close()
	running := stages{scene: scene, tls: workloads[0].tls, all: make(map[*peer]started)}
	defer running.close()
	if !workloads[0].alone {
		for _, p := range m.peers {
			if slices.ContainsFunc(workloads, func(w workload) bool { return m.takesPart(w, p) }) {
				running.get(ctx, p)
			}
		}
		if err := pause(ctx, settle); err != nil {
			return err
		}
	}
	for _, w := range workloads {
		peers := slices.DeleteFunc(slices.Clone(m.peers), func(p *peer) bool { return !m.takesPart(w, p) })
		for i := range peers {
			p := peers[(i+round)%len(peers)] // no peer is always the first
			if err := m.once(ctx, &running, round+1, w, p); err != nil {
				return err
			}
			if w.alone {
				running.end(p)
			}
		}
	}
	return nil
}

// settle is how long the peers have after their start. Adit binaries up to 5a52dcf favor keystrokes
// for two seconds after one, and take the first bytes of a connection for one.
const settle = 2200 * time.Millisecond

// once measures a workload with a peer and records the sample. A peer that fails has a sample that
// says so; the error is only that ctx has ended.
func (m *measurement) once(ctx context.Context, running *stages, round int, w workload, p *peer) error {
	got := sample{Workload: w.name, Peer: p.name, Round: round}
	st, err := running.get(ctx, p)
	if err == nil {
		got.Values, err = w.run(ctx, st, m.set)
		if gone := st.ended(); gone != nil {
			err = errors.Join(fmt.Errorf("%s ended by itself", gone.name), err)
		}
		if err != nil {
			err = errors.Join(err, st.said())
			running.end(p)
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("stopped: %w", context.Cause(ctx))
		}
		got.Values, got.Failure = nil, err.Error()
	}
	m.record.Samples = append(m.record.Samples, got)
	fmt.Fprintf(os.Stderr, "%d  %-16s %-21s %s\n", round, w.name, p.name, w.line(got))
	return nil
}

// line is a sample as text.
func (w workload) line(s sample) string {
	if s.Failure != "" {
		return "FAILED: " + s.Failure
	}
	var all []string
	for _, c := range w.columns {
		all = append(all, c.title+" "+short(s.Values[c.key]))
	}
	return strings.Join(all, ", ")
}

// Stages are the peers that run in a scene.
type stages struct {
	*scene
	tls bool
	all map[*peer]started
}

// started is a peer that runs, or why it does not.
type started struct {
	stage *stage
	err   error
}

// get returns the stage of a peer, which it starts if it has not been started or has been ended.
func (s *stages) get(ctx context.Context, p *peer) (*stage, error) {
	if _, tried := s.all[p]; !tried {
		stage, err := s.start(ctx, p, s.tls)
		if err != nil {
			err = fmt.Errorf("start: %w", err)
		}
		s.all[p] = started{stage, err}
	}
	return s.all[p].stage, s.all[p].err
}

// end ends a peer.
func (s *stages) end(p *peer) {
	if st := s.all[p].stage; st != nil {
		st.close()
	}
	delete(s.all, p)
}

func (s *stages) close() {
	for p := range s.all {
		s.end(p)
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopped: %w", context.Cause(ctx))
	}
}

// findBinary returns the absolute path of a binary: peers run in directories of their own.
func findBinary(name string) (string, error) {
	path, err := filepath.Abs(name)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return "", fmt.Errorf("find adit (make build makes it): %w", err)
	}
	return path, nil
}
