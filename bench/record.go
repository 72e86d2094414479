//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A record is the samples of a measurement and what they depend on.
type record struct {
	Date    string
	Runs    int // of make bench that the samples are from
	Machine description
	Load    string  // load average of the machine before the run
	Seconds float64 // measured part of most workloads
	Peers   []participant
	LeftOut []string `json:",omitempty"` // workloads that were not measured because they need root
	Samples []sample
}

// A description is the machine and the programs that figures depend on.
type description struct {
	Processor  string
	Cores      int
	Memory     string
	Kernel     string
	System     string
	Congestion string // congestion control of TCP
	Go         string
	Adit       string
}

// A participant is a peer, or one that is absent.
type participant struct {
	Name, About, Version string
	Absent               string `json:",omitempty"` // reason
}

// A sample is the values of one workload with one peer in one round, or why there are none.
type sample struct {
	Workload, Peer string
	Round          int
	Values         values `json:",omitempty"`
	Failure        string `json:",omitempty"`
}

func describe(ctx context.Context, adit string) description {
	d := description{
		Cores: runtime.NumCPU(), Go: runtime.Version(),
		Processor:  lineOf("/proc/cpuinfo", "model name"),
		System:     strings.Trim(lineOf("/etc/os-release", "PRETTY_NAME"), `"`),
		Congestion: lineOf("/proc/sys/net/ipv4/tcp_congestion_control", ""),
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		d.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var kib int64
	if fmt.Sscan(lineOf("/proc/meminfo", "MemTotal"), &kib); kib > 0 {
		d.Memory = fmt.Sprintf("%d GiB", (kib+1<<19)>>20)
	}
	d.Adit = aditPeer(nameAdit, "", adit, "").versionOf(ctx)
	return d
}

// lineOf returns the value of a key in a file of lines "key: value" or "key=value", or the first line
// if the key is "". It returns "unknown" if there is none.
func lineOf(file, key string) string {
	data, _ := os.ReadFile(file)
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		rest, found := strings.CutPrefix(lines.Text(), key)
		if found {
			return strings.TrimLeft(rest, " \t:=")
		}
	}
	return "unknown"
}

// load reads a record from a file.
func load(file string) (*record, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the figures: %w", err)
	}
	r := new(record)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("read the figures in %s: %w", file, err)
	}
	return r, nil
}

// save writes the record as JSON with one sample in each line.
func (r *record) save(file string) error {
	samples := r.Samples
	head := *r
	head.Samples = nil
	out, err := json.MarshalIndent(head, "", " ")
	if err != nil {
		return fmt.Errorf("encode the figures: %w", err)
	}
	lines := make([]string, len(samples))
	for i, s := range samples {
		line, err := json.Marshal(s)
		if err != nil {
			return fmt.Errorf("encode a figure of %s with %s: %w", s.Peer, s.Workload, err)
		}
		lines[i] = "  " + string(line)
	}
	text := strings.Replace(string(out), `"Samples": null`, "\"Samples\": [\n"+strings.Join(lines, ",\n")+"\n ]", 1)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("make the directory of the figures: %w", err)
	}
	if err := os.WriteFile(file, []byte(text+"\n"), 0o644); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	return nil
}

// adopt adds the samples of an older record, except those of workloads that one of its programs has
// been measured with again: no program gets a second try alone. Both records must be of the same
// machine and programs.
func (r *record) adopt(old *record) error {
	if old.Machine != r.Machine || old.Seconds != r.Seconds {
		return errors.New("the kept figures are of another machine, another adit or other -seconds: measure them again, without -keep")
	}
	for _, p := range old.Peers {
		i := slices.IndexFunc(r.Peers, func(q participant) bool { return q.Name == p.Name })
		switch {
		case i < 0 || r.Peers[i].Absent != "":
			if i >= 0 {
				r.Peers[i] = p
			}
		case p.Absent == "" && r.Peers[i].Version != p.Version:
			return fmt.Errorf("the kept figures are of %s %s, and now it is %s: measure them again, without -keep", p.Name, p.Version, r.Peers[i].Version)
		}
	}
	again := map[string]bool{} // workloads
	for _, s := range old.Samples {
		if slices.ContainsFunc(r.Samples, func(n sample) bool { return n.Workload == s.Workload && n.Peer == s.Peer }) {
			again[s.Workload] = true
		}
	}
	kept := slices.DeleteFunc(slices.Clone(old.Samples), func(s sample) bool { return again[s.Workload] })
	r.Samples = append(kept, r.Samples...)
	r.Runs = old.Runs + 1
	return nil
}

// failures returns the samples that failed.
func (r *record) failures() (all []sample) {
	for _, s := range r.Samples {
		if s.Failure != "" {
			all = append(all, s)
		}
	}
	return all
}

// failed returns an error if a sample failed.
func (r *record) failed() error {
	if n := len(r.failures()); n > 0 {
		return fmt.Errorf("%d of %d measurements failed", n, len(r.Samples))
	}
	return nil
}

func today() string { return time.Now().UTC().Format("2006-01-02") }
