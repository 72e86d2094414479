//go:build linux

package main

import (
	"cmp"
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

// Options are the flags of the report.
type options struct {
	adit       string
	rounds     int
	seconds    float64
	idle       int
	only       string
	peers      string
	congestion string
	out        string
	render     bool
	keep       bool
}

func runReport(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.adit, "adit", "./adit", "the `binary` to measure")
	flags.IntVar(&o.rounds, "rounds", 5, "how often each workload is measured with each peer")
	flags.Float64Var(&o.seconds, "seconds", 2, "the measured part of most workloads")
	flags.IntVar(&o.idle, "idle", 10000, "idle connections to hold")
	flags.StringVar(&o.only, "only", allGroups(), "`workloads` or groups of them, with commas between, of "+choices()+"\n")
	flags.StringVar(&o.peers, "peers", "", "`peers` with semicolons between, all that are found if empty: "+strings.Join(peerNames(), "; "))
	flags.StringVar(&o.congestion, "congestion", "cubic", "congestion `control` of TCP in network namespaces, the machine's if empty")
	flags.StringVar(&o.out, "out", "docs/benchmarks.md", "the report's `file`; charts and raw figures go into the directory of its name without .md")
	flags.BoolVar(&o.render, "render", false, "write the report from existing raw figures and measure nothing")
	flags.BoolVar(&o.keep, "keep", false, "keep existing raw figures of workloads that are not measured now")
	if err := flags.Parse(args); err != nil {
		return errors.Join(flag.ErrHelp, err)
	}
	if flags.NArg() > 0 || o.rounds < 1 || o.seconds <= 0 || o.idle < 1 || !strings.HasSuffix(o.out, ".md") {
		flags.Usage()
		return flag.ErrHelp
	}
	return o.run(ctx)
}

// rawFile is where the raw figures are.
func (o *options) rawFile() string {
	return filepath.Join(strings.TrimSuffix(o.out, ".md"), "raw.json")
}

func (o *options) run(ctx context.Context) error {
	if o.render {
		r, err := load(o.rawFile())
		if err != nil {
			return err
		}
		return r.write(o.out)
	}
	var kept *record
	if o.keep {
		var err error
		if kept, err = load(o.rawFile()); err != nil {
			return err
		}
	}
	r, err := o.measure(ctx)
	if err != nil {
		return err
	}
	if kept != nil {
		if err := r.adopt(kept); err != nil {
			return err
		}
	}
	if err := r.save(o.rawFile()); err != nil {
		return err
	}
	if err := r.write(o.out); err != nil {
		return err
	}
	return r.failed()
}

// measure measures what the options ask for.
func (o *options) measure(ctx context.Context) (*record, error) {
	var err error
	if o.adit, err = findBinary(o.adit); err != nil {
		return nil, err
	}
	workloads, err := chooseWorkloads(o.only)
	if err != nil {
		return nil, err
	}
	load, _, _ := strings.Cut(lineOf("/proc/loadavg", ""), " ")
	r := &record{Date: today(), Runs: 1, Machine: describe(ctx, o.adit), Load: load, Seconds: o.seconds}
	r.Machine.Congestion += ", in network namespaces with " + cmp.Or(o.congestion, "the same")
	if os.Geteuid() != 0 {
		workloads = slices.DeleteFunc(workloads, func(w workload) bool {
			if w.path.namespaces() {
				r.LeftOut = append(r.LeftOut, w.name)
			}
			return w.path.namespaces()
		})
		fmt.Fprintln(os.Stderr, "left out, because they need root:", strings.Join(r.LeftOut, " "))
	}
	peers, err := o.choosePeers(ctx, r)
	if err != nil {
		return nil, err
	}
	m := measurement{
		workloads: workloads, peers: peers, record: r, congestion: o.congestion,
		set:       settings{time.Duration(o.seconds * float64(time.Second)), o.idle},
		takesPart: func(w workload, p *peer) bool { return w.route == p.route },
	}
	return r, m.run(ctx, o.rounds)
}

// choosePeers returns the peers that take part, and records these and the absent ones.
func (o *options) choosePeers(ctx context.Context, r *record) ([]*peer, error) {
	var names []string
	if o.peers != "" {
		names = strings.Split(o.peers, ";")
		for i, name := range names {
			names[i] = strings.TrimSpace(name)
			if !slices.Contains(peerNames(), names[i]) {
				return nil, fmt.Errorf("there is no peer %q: there are %s", names[i], strings.Join(peerNames(), "; "))
			}
		}
	}
	var all []*peer
	for _, p := range allPeers(o.adit) {
		entry := participant{Name: p.name, About: p.about}
		switch err := p.absent(); {
		case names != nil && !slices.Contains(names, p.name):
			entry.Absent = "not asked for"
		case err != nil:
			entry.Absent = err.Error()
			fmt.Fprintf(os.Stderr, "absent: %s: %v\n", p.name, err)
		default:
			entry.Version = p.versionOf(ctx)
			all = append(all, p)
		}
		r.Peers = append(r.Peers, entry)
	}
	return all, nil
}

func peerNames() (all []string) {
	for _, p := range allPeers("") {
		all = append(all, p.name)
	}
	return all
}

func allGroups() string {
	var all []string
	for _, g := range plan() {
		all = append(all, g.name)
	}
	return strings.Join(all, ",")
}
