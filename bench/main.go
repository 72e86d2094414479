//go:build linux

// Command bench measures adit beside other programs that do the same, on this machine, and writes a
// report: `make bench`. `bench compare` measures several adit binaries beside each other and prints
// ratios. It starts every program itself, one at a time, carries bytes through it that
// it checks at the other end, and ends it. The rounds are interleaved: each has every program once
// with every workload, so that a disturbance of the machine hits all alike.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(playMain(role))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second signal ends it at once, and the kernel its children
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// raiseFileLimit lets this program and those it starts have as many files open as the system lets
// them. Go gives children the limit that it has found, unless it was set like this.
func raiseFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	return nil
}

// Options are the flags.
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

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "compare" {
		return runCompare(ctx, args[1:])
	}
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.adit, "adit", "./adit", "the `binary` to measure")
	flags.IntVar(&o.rounds, "rounds", 5, "how often each workload is measured with each peer")
	flags.Float64Var(&o.seconds, "seconds", 2, "the measured part of most workloads")
	flags.IntVar(&o.idle, "idle", 10000, "idle connections to hold")
	flags.StringVar(&o.only, "only", "", "`workloads`, or groups of them, with commas between; all without it: "+strings.Join(workloadNames(), " "))
	flags.StringVar(&o.peers, "peers", "", "`peers` with semicolons between; without it all that are found: "+strings.Join(peerNames(), "; "))
	flags.StringVar(&o.congestion, "congestion", "", "congestion `control` of TCP on the narrow paths, the system's without it")
	flags.StringVar(&o.out, "out", "docs/benchmarks.md", "the report's `file`; pictures and raw figures go into the directory of its name without .md")
	flags.BoolVar(&o.render, "render", false, "write the report from the raw figures that are there, and measure nothing")
	flags.BoolVar(&o.keep, "keep", false, "keep the raw figures that are there for what is not measured now")
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
	r, measureErr := o.measure(ctx)
	if measureErr != nil {
		return measureErr
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
	if failed := r.failures(); len(failed) > 0 {
		return fmt.Errorf("%d of %d measurements failed: %s", len(failed), len(r.Samples), o.out)
	}
	return nil
}

func workloadNames() (all []string) {
	for _, g := range plan() {
		for _, w := range g.workloads {
			all = append(all, w.name)
		}
	}
	return all
}

func peerNames() (all []string) {
	for _, p := range allPeers("") {
		all = append(all, p.name)
	}
	return all
}

// chooseWorkloads returns the workloads of a list of names of theirs and of groups, all for "".
func chooseWorkloads(only string) ([]workload, error) {
	if only == "" {
		return allWorkloads(), nil
	}
	var all []workload
	for _, name := range strings.Split(only, ",") {
		found := false
		for _, g := range plan() {
			for _, w := range g.workloads {
				if name == w.name || name == g.name {
					all, found = append(all, w), true
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no workload %q: there are %s", name, strings.Join(workloadNames(), " "))
		}
	}
	return all, nil
}

// choosePeers returns the peers that take part, and notes them and those that are absent.
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
			fmt.Printf("absent: %s: %v\n", p.name, err)
		default:
			entry.Version = p.versionOf(ctx)
			all = append(all, p)
		}
		r.Peers = append(r.Peers, entry)
	}
	return all, nil
}
