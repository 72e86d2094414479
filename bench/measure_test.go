//go:build linux

package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"adit/internal/testnet"
)

// TestEveryWorkload measures all workloads with adit for a moment each, and writes reports.
func TestEveryWorkload(t *testing.T) {
	namespaces := needNamespaces(t)
	var atOnce, waiting []string // workloads on a path with delay take time but little processor time
	for _, w := range allWorkloads() {
		switch {
		case w.path == loopback:
			atOnce = append(atOnce, w.name)
		case !w.path.namespaces() || namespaces:
			waiting = append(waiting, w.name)
		}
	}
	adit := aditBinary(t)
	t.Run("all", func(t *testing.T) {
		for _, names := range [][]string{atOnce, waiting} {
			t.Run(names[0], func(t *testing.T) {
				t.Parallel()
				checkReport(t, adit, names)
			})
		}
	})
	if left := descendants(os.Getpid()); len(left) != 1 {
		t.Errorf("processes are left: %+v", left[1:])
	}
}

// checkReport measures workloads with adit and checks the report.
func checkReport(t *testing.T, adit string, names []string) {
	o := options{
		adit: adit, rounds: 1, seconds: 0.2, idle: 100, only: strings.Join(names, ","),
		peers: nameAdit + ";" + nameAditRoute, out: filepath.Join(t.TempDir(), "report.md"),
	}
	if err := o.run(t.Context()); err != nil {
		if r, failed := load(o.rawFile()); failed == nil {
			t.Error(r.failures())
		}
		t.Fatal(err)
	}
	r, err := load(o.rawFile())
	if err != nil {
		t.Fatal(err)
	}
	report, err := os.ReadFile(o.out)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range allWorkloads() {
		if !slices.Contains(names, w.name) {
			continue
		}
		for _, c := range w.columns {
			f := r.figure(w.name, w.adit(), c.key)
			// In so short a time, processor time and memory may be zero.
			counted := slices.Contains([]string{keyCPU, keyCost, keyClient, keyServer}, c.key)
			if f.rounds != 1 || f.median <= 0 && !counted {
				t.Errorf("%s: %s is %+v", w.name, c.title, f)
			}
		}
		if !strings.Contains(string(report), "### "+capital(w.title)+"\n") {
			t.Errorf("the report has no table for %s", w.name)
		}
	}
	charts, err := filepath.Glob(filepath.Join(filepath.Dir(o.rawFile()), "*.svg"))
	if err != nil || len(charts) == 0 || len(charts) != strings.Count(string(report), ".svg)") {
		t.Errorf("%d charts were written, and the report shows %d: %v", len(charts), strings.Count(string(report), ".svg)"), err)
	}
	for _, name := range charts {
		wellFormed(t, name)
	}

	// The report can be written again from the raw figures.
	o.render = true
	if err := o.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if second, err := os.ReadFile(o.out); err != nil || string(second) != string(report) {
		t.Errorf("rendered again, the report differs: %v", err)
	}
}

func wellFormed(t *testing.T, name string) {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for d := xml.NewDecoder(file); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// A measurement that is canceled ends what it has started.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := &peer{name: "slow", start: func(s *stage) (string, error) {
		err := s.runClient(nil, "sleep", "600")
		time.AfterFunc(100*time.Millisecond, cancel)
		return testnet.RefusedAddr(t), err
	}}
	m := testMeasurement("up1", p)
	if err := m.run(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("run returns %v, want that it was canceled", err)
	}
	if left := descendants(os.Getpid()); len(left) != 1 {
		t.Errorf("processes are left: %+v", left[1:])
	}
}

// testMeasurement returns a measurement of one workload with one peer.
func testMeasurement(name string, p *peer) *measurement {
	workloads, _ := chooseWorkloads(name)
	return &measurement{
		workloads: workloads, peers: []*peer{p}, takesPart: func(_ workload, _ *peer) bool { return true },
		set: settings{50 * time.Millisecond, 10}, record: new(record),
	}
}

// A peer that fails or changes data has a sample that says so, and no figure.
func TestFailuresAreRecorded(t *testing.T) {
	for _, c := range []struct {
		name     string
		start    func(*testing.T, *stage) (string, error)
		workload string
		want     string
	}{
		{"ends by itself", func(t *testing.T, s *stage) (string, error) {
			return testnet.RefusedAddr(t), s.runServer(nil, "sh", "-c", "echo no way >&2; exit 3")
		}, "up1", "no way"},
		{"garbles", func(t *testing.T, s *stage) (string, error) {
			return through(t, s.target.addr, func(at int64, b []byte) []byte {
				if second := chunkSize + int64(stampSize) + 9 - at; second > 0 && second <= int64(len(b)) {
					b[second-1] ^= 1
				}
				return b
			}), nil
		}, "up1", "garbled"},
		{"loses", func(t *testing.T, s *stage) (string, error) {
			return through(t, s.target.addr, func(at int64, b []byte) []byte {
				if at > 1<<20 && len(b) > 1 {
					return b[1:]
				}
				return b
			}), nil
		}, "up1", "garbled"},
		{"answers something else", func(t *testing.T, s *stage) (string, error) {
			n := 0
			return through(t, s.target.addr, func(_ int64, b []byte) []byte {
				if n++; n > 20 && len(b) > 0 {
					b[0] ^= 1
				}
				return b
			}), nil
		}, "rtt", "came back as"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := testMeasurement(c.workload, &peer{name: c.name, start: func(s *stage) (string, error) { return c.start(t, s) }})
			if err := m.run(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			got := m.record.Samples[0]
			if !strings.Contains(got.Failure, c.want) || got.Values != nil {
				t.Errorf("the sample is %+v, want a failure with %q", got, c.want)
			}
		})
	}
}

// through relays connections to addr. change gets data on the way there with its offset.
func through(t *testing.T, addr string, change func(at int64, b []byte) []byte) string {
	return testnet.Serve(t, func(in net.Conn) {
		out, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.Copy(in, out)
			in.Close()
		}()
		buf := make([]byte, 32<<10)
		for at := int64(0); ; {
			n, err := in.Read(buf)
			if _, failed := out.Write(change(at, buf[:n])); err != nil || failed != nil {
				break
			}
			at += int64(n)
		}
		out.Close()
		<-done
	})
}
