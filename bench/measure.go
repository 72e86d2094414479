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

// measure measures what the options ask for.
func (o *options) measure(ctx context.Context) (*record, error) {
	var err error
	if o.adit, err = filepath.Abs(o.adit); err != nil {
		return nil, fmt.Errorf("find adit: %w", err)
	}
	if _, err := os.Stat(o.adit); err != nil {
		return nil, fmt.Errorf("find adit (make build makes it): %w", err)
	}
	if err := raiseFileLimit(); err != nil {
		return nil, err
	}
	workloads, err := chooseWorkloads(o.only)
	if err != nil {
		return nil, err
	}
	load, _, _ := strings.Cut(lineOf("/proc/loadavg", ""), " ")
	r := &record{Date: today(), Runs: 1, Machine: describe(ctx, o.adit), Load: load, Seconds: o.seconds}
	if o.congestion != "" {
		r.Machine.Congestion += ", on the narrow paths " + o.congestion
	}
	if os.Geteuid() != 0 {
		workloads = slices.DeleteFunc(workloads, func(w workload) bool {
			if w.path.namespaces() {
				r.LeftOut = append(r.LeftOut, w.name)
			}
			return w.path.namespaces()
		})
		fmt.Println("left out, because they need root:", strings.Join(r.LeftOut, " "))
	}
	peers, err := o.choosePeers(ctx, r)
	if err != nil {
		return nil, err
	}
	m := &measurement{record: r, congestion: o.congestion, set: settings{time.Duration(o.seconds * float64(time.Second)), o.idle}}
	if m.dir, err = os.MkdirTemp("", "adit-bench-"); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(m.dir)
	m.machine = machine()
	defer m.machine.close()
	for round := range o.rounds {
		for _, w := range workloads {
			for _, p := range peers {
				if !w.takesPart(p) {
					continue
				}
				if err := m.once(ctx, round+1, w, p); err != nil {
					return nil, err
				}
			}
		}
	}
	return r, nil
}

// A measurement is under way.
type measurement struct {
	machine    *host
	dir        string
	set        settings
	congestion string
	record     *record
}

// once measures a workload with a peer and notes the result. Only the end of everything is an error:
// a peer that fails is a result too.
func (m *measurement) once(ctx context.Context, round int, w workload, p *peer) error {
	got := sample{Workload: w.name, Peer: p.name, Round: round}
	var err error
	if got.Values, err = m.try(ctx, w, p); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("stopped: %w", context.Cause(ctx))
		}
		got.Values, got.Failure = nil, err.Error()
	}
	m.record.Samples = append(m.record.Samples, got)
	fmt.Printf("%d  %-16s %-21s %s\n", round, w.name, p.name, got)
	return nil
}

func (m *measurement) try(ctx context.Context, w workload, p *peer) (values, error) {
	sc, err := newScene(ctx, m.machine, m.dir, w.path, m.congestion)
	if err != nil {
		return nil, err
	}
	defer sc.close()
	st, err := sc.start(ctx, p, w.tls)
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	defer st.close()
	v, err := w.run(ctx, st, m.set)
	if err != nil {
		return nil, errors.Join(err, st.said())
	}
	if gone := st.ended(); gone != nil {
		return nil, fmt.Errorf("%s ended by itself: %w", gone.name, errors.Join(st.said()))
	}
	return v, nil
}

func (s sample) String() string {
	if s.Failure != "" {
		return "FAILED: " + s.Failure
	}
	var all []string
	for _, w := range allWorkloads() {
		if w.name == s.Workload {
			for _, c := range w.columns {
				all = append(all, c.title+" "+short(s.Values[c.key]))
			}
		}
	}
	return strings.Join(all, ", ")
}
