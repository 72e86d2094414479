//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A comparison measures several adit binaries beside each other, and other programs that bounds
// refer to. Each round starts all of them anew, and within a round they take turns of about a
// second: a ratio is of two turns of the same round, which a disturbance of the machine hits alike.
type comparison struct {
	binaries []*peer // the first is the one that the others are compared with
	measures []measure
	rounds   int
	turn     time.Duration
	control  string // congestion control of TCP over veth, "" for the machine's

	machine *host
	dir     string
	record  record
}

func runCompare(ctx context.Context, args []string) error {
	c := comparison{record: record{Date: today(), Runs: 1}}
	flags := flag.NewFlagSet("bench compare", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: bench compare [flags] NAME=BINARY [NAME=BINARY ...]\n\n"+
			"Measures adit binaries beside each other and prints ratios to the first.\n\nflags:")
		flags.PrintDefaults()
	}
	var only, raw string
	flags.IntVar(&c.rounds, "rounds", 5, "how often each program is started and measured")
	flags.DurationVar(&c.turn, "turn", time.Second, "how long a program is measured before the next one")
	flags.StringVar(&only, "only", "", "`measures` with commas between, or veth or loopback; those with bounds without it: "+strings.Join(measureNames(), " "))
	flags.StringVar(&c.control, "congestion", "cubic", "congestion `control` of TCP over veth: cubic is the kernel's default, bbr paces by timers and costs all programs more; the machine's if empty")
	flags.StringVar(&raw, "raw", "", "also write the raw figures to a `file`")
	if err := flags.Parse(args); err != nil {
		return errors.Join(flag.ErrHelp, err)
	}
	var err error
	if c.binaries, err = parseBinaries(flags.Args()); err == nil {
		c.measures, err = chooseMeasures(only)
	}
	if err != nil || c.rounds < 1 || c.turn <= 0 {
		flags.Usage()
		return errors.Join(flag.ErrHelp, err)
	}
	if err := c.run(ctx); err != nil {
		return err
	}
	if raw != "" {
		if err := c.record.save(raw); err != nil {
			return err
		}
	}
	c.report(os.Stdout)
	if failed := c.record.failures(); len(failed) > 0 {
		return fmt.Errorf("%d of %d measurements failed", len(failed), len(c.record.Samples))
	}
	return nil
}

// parseBinaries reads NAME=BINARY arguments.
func parseBinaries(args []string) (all []*peer, err error) {
	for _, arg := range args {
		name, binary, found := strings.Cut(arg, "=")
		if !found || name == "" || slices.ContainsFunc(all, func(p *peer) bool { return p.name == name }) {
			return nil, fmt.Errorf("argument %q: want NAME=BINARY, each name once", arg)
		}
		if binary, err = filepath.Abs(binary); err != nil {
			return nil, fmt.Errorf("find %s: %w", name, err)
		}
		if _, err := os.Stat(binary); err != nil {
			return nil, fmt.Errorf("find %s: %w", name, err)
		}
		all = append(all, &peer{name: name, programs: []string{binary}, version: []string{binary, "version"}, start: aditTunnel{binary, ""}.start})
	}
	if len(all) == 0 {
		return nil, errors.New("no binaries: want NAME=BINARY arguments")
	}
	return all, nil
}

func (c *comparison) run(ctx context.Context) error {
	if err := raiseFileLimit(); err != nil {
		return err
	}
	var err error
	if c.dir, err = os.MkdirTemp("", "adit-bench-"); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(c.dir)
	c.machine = machine()
	defer c.machine.close()
	for round := range c.rounds {
		for _, p := range []path{vethPath, {}} {
			measures := slices.DeleteFunc(slices.Clone(c.measures), func(m measure) bool { return m.path != p })
			if len(measures) == 0 {
				continue
			}
			if err := c.round(ctx, round, p, measures); err != nil {
				return err
			}
		}
	}
	return nil
}

// round starts every program on one path and takes each measure with each program once.
func (c *comparison) round(ctx context.Context, round int, p path, measures []measure) error {
	scene, err := newScene(ctx, c.machine, c.dir, p, c.control)
	if err != nil {
		return err
	}
	defer scene.close()
	stages := make(map[string]*stage)
	defer func() {
		for _, s := range stages {
			s.close()
		}
	}()
	for _, p := range c.participants(measures) {
		s, err := scene.start(ctx, p, false)
		if err != nil {
			return fmt.Errorf("start %s: %w", p.name, err)
		}
		stages[p.name] = s
		if _, err := s.pairs(mostStreams, time.Hour); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if err := calm(ctx); err != nil {
		return err
	}
	for _, m := range measures {
		peers := c.participants([]measure{m})
		for i := range peers {
			p := peers[(i+round)%len(peers)] // none is always the first
			got := sample{Workload: m.name, Peer: p.name, Round: round + 1}
			if got.Values, err = m.run(ctx, stages[p.name], c.turn); err != nil {
				if ctx.Err() != nil {
					return fmt.Errorf("stopped: %w", context.Cause(ctx))
				}
				got.Values, got.Failure = nil, errors.Join(err, stages[p.name].said()).Error()
			}
			c.record.Samples = append(c.record.Samples, got)
			fmt.Fprintf(os.Stderr, "%d  %-16s %-10s %s\n", round+1, m.name, p.name, m.line(got))
		}
	}
	return nil
}

// participants returns the binaries and the other programs that bounds of the measures refer to.
func (c *comparison) participants(measures []measure) []*peer {
	all := slices.Clone(c.binaries)
	for _, p := range allPeers("") {
		if slices.ContainsFunc(measures, func(m measure) bool { return m.refersTo(p.name) }) && p.absent() == nil {
			all = append(all, p)
		}
	}
	return all
}
