//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A measure is one thing that binaries are compared by.
type measure struct {
	name   string
	title  string
	path   path
	keys   []string // of the values that run returns, in the order of the report
	bounds []bound  // none: taken only when asked for
	run    func(ctx context.Context, s *stage, turn time.Duration) (values, error)
}

// A bound limits the ratio of a binary's figure to that of another program.
type bound struct {
	key         string
	of          string  // a peer, or ofFirst
	least, most float64 // one of them
}

// ofFirst stands for the first binary.
const ofFirst = ""

// mostStreams is how many connections each program has open from the start.
const mostStreams = 8

var vethPath = path{veth: true}

// allMeasures returns the measures in the order of the report.
func allMeasures() []measure {
	bulk := func(name, title string, streams int, up bool) measure {
		return measure{"veth-" + name, title, vethPath, []string{keyRate, keyCPU}, []bound{
			{keyRate, ofFirst, 0.95, 0}, {keyCPU, ofFirst, 0, 1.3}, {keyCPU, nameStunnel, 0, 1},
		}, compareBulk(streams, up)}
	}
	beside := func(name, title string, p path, up bool, bounds ...bound) measure {
		return measure{name, title, p, []string{keyP50, keyP99, keyRate}, bounds, compareBeside(up)}
	}
	idle := func(name, title string, p path, bounds ...bound) measure {
		return measure{name, title, p, []string{keyP50, keyP99}, bounds, compareWorkload(idleRoundTrip)}
	}
	connections := func(name, title string, p path, bounds ...bound) measure {
		return measure{name, title, p, []string{keyConns, keyCost}, bounds, compareWorkload(newConnections(1))}
	}
	return []measure{
		bulk("up1", "1 stream up", 1, true),
		bulk("down1", "1 stream down", 1, false),
		bulk("up8", "8 streams up", mostStreams, true),
		bulk("down8", "8 streams down", mostStreams, false),
		idle("veth-rtt", "idle round trip", vethPath),
		connections("veth-new1", "connections one after the other", vethPath),
		beside("veth-beside-up", "keystroke beside an upload", vethPath, true),
		beside("veth-beside-down", "keystroke beside a download", vethPath, false),
		idle("rtt", "idle round trip", path{}, bound{keyP50, nameStunnel, 0, 1}),
		connections("new1", "connections one after the other", path{}, bound{keyConns, nameSSH, 0.95, 0}),
		beside("beside-up", "keystroke beside an upload", path{}, true, bound{keyP99, nameSSH, 0, 1.2}),
		beside("beside-down", "keystroke beside a download", path{}, false, bound{keyP99, nameSSH, 0, 1.2}),
	}
}

func measureNames() (all []string) {
	for _, m := range allMeasures() {
		all = append(all, m.name)
	}
	return all
}

// chooseMeasures returns the measures of a list of names and paths, those with bounds for "".
func chooseMeasures(only string) ([]measure, error) {
	if only == "" {
		return slices.DeleteFunc(allMeasures(), func(m measure) bool { return m.bounds == nil }), nil
	}
	names := strings.Split(only, ",")
	for _, name := range names {
		if name != "veth" && name != "loopback" && !slices.Contains(measureNames(), name) {
			return nil, fmt.Errorf("there is no measure %q: there are veth, loopback, %s", name, strings.Join(measureNames(), ", "))
		}
	}
	return slices.DeleteFunc(allMeasures(), func(m measure) bool {
		return !slices.Contains(names, m.name) && !slices.Contains(names, m.place())
	}), nil
}

// place names the path between the ends.
func (m measure) place() string {
	if m.path.veth {
		return "veth"
	}
	return "loopback"
}

func (m measure) refersTo(peer string) bool {
	return slices.ContainsFunc(m.bounds, func(b bound) bool { return b.of == peer })
}

// compareBulk measures streams that were opened before.
func compareBulk(streams int, up bool) func(context.Context, *stage, time.Duration) (values, error) {
	return func(ctx context.Context, s *stage, turn time.Duration) (values, error) {
		b := s.startBulk(s.opened[:streams], up)
		w, err := b.warmed(ctx, turn/4, s.cpu, func() error { return b.run(ctx, turn) })
		return values{keyRate: w.mibPerSecond(), keyCPU: w.cpuPerGiB()}, err
	}
}

// compareBeside measures keystrokes beside a stream that takes all it can get, for two turns:
// the 99th percentile needs as many samples.
func compareBeside(up bool) func(context.Context, *stage, time.Duration) (values, error) {
	return func(ctx context.Context, s *stage, turn time.Duration) (values, error) {
		pairs, err := s.pairs(1, 3*turn)
		if err != nil {
			return nil, err
		}
		var took []time.Duration
		b := s.startBulk(s.opened[:1], up)
		w, err := b.warmed(ctx, turn/2, s.cpu, func() (err error) {
			took, err = s.timed(ctx, pairs[0], roleKeystrokes, 2*turn)
			return err
		})
		if err == nil && len(took) == 0 {
			err = errors.New("no keystroke was answered")
		}
		return values{
			keyP50: milliseconds(percentile(took, 0.5)), keyP99: milliseconds(percentile(took, 0.99)),
			keyRate: w.mibPerSecond(),
		}, err
	}
}

// compareWorkload is a workload of the report as a measure.
func compareWorkload(run func(context.Context, *stage, settings) (values, error)) func(context.Context, *stage, time.Duration) (values, error) {
	return func(ctx context.Context, s *stage, turn time.Duration) (values, error) {
		return run(ctx, s, settings{d: turn})
	}
}

// line is a sample for the progress output.
func (m measure) line(s sample) string {
	if s.Failure != "" {
		return "FAILED: " + s.Failure
	}
	var all []string
	for _, key := range m.keys {
		all = append(all, short(s.Values[key])+" "+key)
	}
	return strings.Join(all, ", ")
}
