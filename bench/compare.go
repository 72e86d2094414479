//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// A comparison measures several adit binaries beside each other, and the peers that goals refer to.
type comparison struct {
	binaries  []*peer // the first is the one that the others are compared with
	workloads []workload
	rounds    int
	turn      time.Duration
	control   string // congestion control of TCP in namespaces; "" means the machine's
	record    *record
}

func runCompare(ctx context.Context, args []string) error {
	c := comparison{record: &record{Date: today(), Runs: 1}}
	flags := flag.NewFlagSet("bench compare", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: bench compare [flags] NAME=BINARY [NAME=BINARY ...]\n\n"+
			"Measures adit binaries beside each other and prints ratios to the first.\n\nflags:")
		flags.PrintDefaults()
	}
	var only, raw string
	flags.IntVar(&c.rounds, "rounds", 5, "how often each program is started and measured")
	flags.DurationVar(&c.turn, "turn", time.Second, "how long a program is measured before the next one")
	flags.StringVar(&only, "only", comparedWorkloads(), "`workloads` or groups of them, with commas between, of "+choices()+"\n")
	flags.StringVar(&c.control, "congestion", "cubic", "congestion `control` of TCP in namespaces, the machine's if empty")
	flags.StringVar(&raw, "raw", "", "also write the raw figures to a `file`")
	if err := flags.Parse(args); err != nil {
		return errors.Join(flag.ErrHelp, err)
	}
	var err error
	if c.workloads, err = chooseWorkloads(only); err == nil {
		c.binaries, err = parseBinaries(flags.Args())
	}
	if err != nil {
		return err
	}
	if c.rounds < 1 || c.turn <= 0 {
		flags.Usage()
		return flag.ErrHelp
	}
	if err := c.measure(ctx); err != nil {
		return err
	}
	if raw != "" {
		if err := c.record.save(raw); err != nil {
			return err
		}
	}
	c.report(os.Stdout)
	return c.record.failed()
}

// comparedWorkloads lists those with a goal that is relative to a binary or a peer, except on paths
// with delay: bench compare takes less than six minutes for them.
func comparedWorkloads() string {
	var all []string
	for _, w := range allWorkloads() {
		if (w.path == loopback || w.path.veth) && slices.ContainsFunc(goalsOf(w.name), func(g goal) bool { return g.peer != "" }) {
			all = append(all, w.name)
		}
	}
	return strings.Join(all, ",")
}

// parseBinaries reads NAME=BINARY arguments.
func parseBinaries(args []string) (all []*peer, err error) {
	for _, arg := range args {
		name, binary, found := strings.Cut(arg, "=")
		if !found || name == "" || slices.ContainsFunc(all, func(p *peer) bool { return p.name == name }) {
			return nil, fmt.Errorf("argument %q: want NAME=BINARY, each name once", arg)
		}
		if binary, err = findBinary(binary); err != nil {
			return nil, err
		}
		all = append(all, aditPeer(name, "", binary, ""))
	}
	if len(all) == 0 {
		return nil, errors.New("no binaries: want NAME=BINARY arguments")
	}
	return all, nil
}

func (c *comparison) measure(ctx context.Context) error {
	m := measurement{workloads: c.workloads, set: settings{c.turn, 10000}, congestion: c.control, record: c.record}
	m.peers = slices.Clone(c.binaries)
	for _, p := range allPeers("") {
		if !p.adit && p.absent() == nil {
			m.peers = append(m.peers, p)
		}
	}
	m.takesPart = func(w workload, p *peer) bool {
		return p.adit && !w.route || slices.ContainsFunc(goalsOf(w.name), func(g goal) bool { return g.peer == p.name })
	}
	return m.run(ctx, c.rounds)
}

// report writes a table with a row for each figure of each binary and each peer that it is compared
// with. A ratio is the median of the ratios of the rounds, with the least and the most.
func (c *comparison) report(w io.Writer) {
	fmt.Fprintf(w, "%s, medians of %s, TCP in namespaces with %s\n\n", c.record.Date, count(c.rounds, "round"),
		cmp.Or(c.control, "the machine's congestion control"))
	fmt.Fprint(w, "| workload | | program | median | compared with | median | ratio | goal | reached |\n|---|---|---|---:|---|---:|---:|---|---|\n")
	first := c.binaries[0].name
	for _, load := range c.workloads {
		for _, column := range load.columns {
			goals := slices.DeleteFunc(goalsOf(load.name), func(g goal) bool { return g.key != column.key })
			for _, p := range c.binaries {
				if p.name != first {
					var of goal
					if i := slices.IndexFunc(goals, func(g goal) bool { return g.peer == nameFirst }); i >= 0 {
						of = goals[i]
					}
					c.row(w, load, column, p.name, first, of)
				}
				for _, g := range goals {
					if g.peer != "" && g.peer != nameFirst {
						c.row(w, load, column, p.name, g.peer, g)
					}
				}
			}
		}
	}
}

// row writes a row; the goal is zero if there is none.
func (c *comparison) row(w io.Writer, load workload, column column, name, other string, g goal) {
	ours, theirs := c.record.figure(load.name, name, column.key), c.record.figure(load.name, other, column.key)
	if !ours.known() {
		return
	}
	ratio, bound, reached := "–", "", ""
	if g != (goal{}) {
		bound, reached = g.bound(), "not measured"
	}
	if f := c.record.ratio(load.name, name, other, column.key); f.known() {
		ratio = fmt.Sprintf("%s (%s–%s)", short(f.median), short(f.min), short(f.max))
		if g != (goal{}) {
			reached = g.reached(f.median)
		}
	}
	fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n",
		load.place(), column.title, name, short(ours.median), other, short(theirs.median), ratio, bound, reached)
}
