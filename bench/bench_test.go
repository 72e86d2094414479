//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"adit/internal/testnet"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(playMain(role))
	}
	goleak.VerifyTestMain(m)
}

// aditBinary returns the path of the command, which is built unless the environment names one.
func aditBinary(t *testing.T) string {
	t.Helper()
	if name := os.Getenv("ADIT_BIN"); name != "" {
		return name
	}
	// What go build reads is not what go test takes note of, and a result that it remembers would hide
	// a break elsewhere.
	if err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		switch {
		case d != nil && d.IsDir() && d.Name() == ".git":
			return filepath.SkipDir
		case err == nil && filepath.Ext(name) == ".go":
			_, err = os.Stat(name)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "adit")
	build := exec.Command("go", "build", "-race=false", "-trimpath", "-o", file, "./cmd/adit")
	build.Dir = ".."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return file
}

// needNamespaces is for the paths between network namespaces.
func needNamespaces(t *testing.T) bool {
	t.Helper()
	_, tun := os.Stat("/dev/net/tun")
	_, ip := lookPath("ip")
	if os.Geteuid() == 0 && tun == nil && ip == nil {
		return true
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("paths need root, /dev/net/tun and ip, and CI=true forbids to leave them out")
	}
	t.Log("without the paths that need root, /dev/net/tun and ip")
	return false
}

// TestEveryWorkload runs all of them with adit, for a moment each, and writes reports.
func TestEveryWorkload(t *testing.T) {
	namespaces := needNamespaces(t)
	var atOnce, waiting []string // those on a path take their time and little of the processors
	for _, w := range allWorkloads() {
		switch {
		case w.path == (path{}):
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

// checkReport measures the workloads with adit and looks at the report.
func checkReport(t *testing.T, adit string, names []string) {
	o := options{
		adit: adit, rounds: 1, seconds: 0.05, idle: 100, only: strings.Join(names, ","),
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
			f := r.figure(w.name, w.ours(), c.key)
			// In so short a time processor time and memory may not have been counted.
			counted := slices.Contains([]string{keyCPU, keyCost, keyNear, keyFar}, c.key)
			if f.rounds != 1 || f.median <= 0 && !counted {
				t.Errorf("%s: %s is %+v", w.name, c.title, f)
			}
		}
		if !strings.Contains(string(report), "### "+capital(w.title)+"\n") {
			t.Errorf("the report has no table for %s", w.name)
		}
	}
	pictures, err := filepath.Glob(filepath.Join(filepath.Dir(o.rawFile()), "*.svg"))
	if err != nil || len(pictures) == 0 || len(pictures) != strings.Count(string(report), ".svg)") {
		t.Errorf("there are %d pictures, and the report shows %d: %v", len(pictures), strings.Count(string(report), ".svg)"), err)
	}
	for _, name := range pictures {
		wellFormed(t, name)
	}

	// The report can be made again from the figures.
	o.render = true
	if err := o.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if second, err := os.ReadFile(o.out); err != nil || string(second) != string(report) {
		t.Errorf("rendered again, the report is another one: %v", err)
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

// What is started is ended when the measurement is stopped in the middle.
func TestStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := &peer{name: "dawdler", start: func(s *stage) (string, error) {
		err := s.nearRuns(nil, "sleep", "600")
		time.AfterFunc(100*time.Millisecond, cancel)
		return testnet.RefusedAddr(t), err
	}}
	m := testMeasurement(t)
	if err := m.once(ctx, 1, allWorkloads()[0], p); !errors.Is(err, context.Canceled) {
		t.Errorf("once returns %v, want that it was cancelled", err)
	}
	if left := descendants(os.Getpid()); len(left) != 1 {
		t.Errorf("processes are left: %+v", left[1:])
	}
}

func testMeasurement(t *testing.T) *measurement {
	m := &measurement{dir: t.TempDir(), machine: machine(), set: settings{50 * time.Millisecond, 10}, record: new(record)}
	t.Cleanup(m.machine.close)
	return m
}

// A peer that fails, or does not pass on what it was given, has no figure but a failure.
func TestFailuresAreNoted(t *testing.T) {
	for _, c := range []struct {
		name     string
		start    func(*testing.T, *stage) (string, error)
		workload string
		want     string
	}{
		{"ends by itself", func(t *testing.T, s *stage) (string, error) {
			return testnet.RefusedAddr(t), s.farRuns(nil, "sh", "-c", "echo no way >&2; exit 3")
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
			m := testMeasurement(t)
			p := &peer{name: c.name, start: func(s *stage) (string, error) { return c.start(t, s) }}
			i := slices.IndexFunc(allWorkloads(), func(w workload) bool { return w.name == c.workload })
			if err := m.once(t.Context(), 1, allWorkloads()[i], p); err != nil {
				t.Fatal(err)
			}
			got := m.record.Samples[0]
			if !strings.Contains(got.Failure, c.want) || got.Values != nil {
				t.Errorf("the sample is %+v, want a failure with %q", got, c.want)
			}
		})
	}
}

// through relays connections to addr; change sees what goes there, from where in the connection.
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

// A bottleneck lets through what its rate allows, after its delay, and no more than fits its queue.
func TestBottleneck(t *testing.T) {
	b := &bottleneck{path: path{rate: 8e6, rtt: 20 * time.Millisecond, depth: 50 * time.Millisecond}} // 1 byte a µs
	before := time.Now()
	var passed int
	for {
		due, ok := b.arrive(1000)
		if !ok {
			break
		}
		passed++
		if least := before.Add(time.Duration(passed)*time.Millisecond + 10*time.Millisecond); due.Before(least) {
			t.Fatalf("packet %d comes out %v too early", passed, least.Sub(due))
		}
		if passed > 1e6 {
			t.Fatal("the queue has no end")
		}
	}
	if passed < 51 {
		t.Errorf("the queue holds %d packets, want 51", passed)
	}
	if b.backlog() <= 0 {
		t.Error("nothing is queued")
	}
	if idle := (&bottleneck{}).backlog(); idle != 0 {
		t.Errorf("nothing was sent, and the queue takes %v to leave", idle)
	}
}

// A delayed path passes on the end of one direction and leaves the other alone, whichever it is.
func TestRelayHalfClose(t *testing.T) {
	h := machine()
	defer h.close()
	ln, err := h.listen()
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r, err := newRelay(h, path{rate: 1e9, depth: time.Second, relay: true}, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	for _, nearFirst := range []bool{true, false} {
		first, err := h.dial(r.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		second, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if !nearFirst {
			first, second = second, first
		}
		for _, c := range []net.Conn{first, second} {
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
		}
		if err := first.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, err := second.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("the near end first: %v: %d bytes, %v, want the end", nearFirst, n, err)
		}
		if _, err := second.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(first, make([]byte, 1)); err != nil {
			t.Fatalf("the near end first: %v: after the end: %v", nearFirst, err)
		}
	}
}

// Every goal is about a workload and a figure that there is, and names a peer that has it too.
func TestGoalsAreMeasured(t *testing.T) {
	for _, g := range goals() {
		i := slices.IndexFunc(allWorkloads(), func(w workload) bool { return w.name == g.workload })
		if i < 0 {
			t.Errorf("%+v: no such workload", g)
			continue
		}
		w := allWorkloads()[i]
		if !slices.ContainsFunc(w.columns, func(c column) bool { return c.key == g.key }) {
			t.Errorf("%+v: %s does not measure it", g, g.workload)
		}
		if g.peer != "" && !slices.ContainsFunc(allPeers(""), func(p *peer) bool { return p.name == g.peer && w.takesPart(p) }) {
			t.Errorf("%+v: no such peer", g)
		}
		if (g.least > 0) == (g.most > 0) {
			t.Errorf("%+v: want one bound", g)
		}
	}
}

func TestFigure(t *testing.T) {
	r := new(record)
	add := func(round int, v float64, failure string) {
		r.Samples = append(r.Samples, sample{"up1", nameAdit, round, values{keyRate: v}, failure})
	}
	add(1, 5, "")
	add(2, 900, "broken")
	add(3, 1, "")
	if got, want := r.figure("up1", nameAdit, keyRate), (figure{3, 1, 5, 2}); got != want {
		t.Errorf("of two rounds %+v, want %+v", got, want)
	}
	add(4, 4, "")
	if got, want := r.figure("up1", nameAdit, keyRate), (figure{4, 1, 5, 3}); got != want {
		t.Errorf("of three rounds %+v, want %+v", got, want)
	}
	if got := r.figure("up1", nameChisel, keyRate); got.known() {
		t.Errorf("of nobody %+v", got)
	}
}

// Older figures are kept where there are no new ones, and only of the same machine.
func TestAdopt(t *testing.T) {
	of := func(kernel string, samples ...sample) *record {
		return &record{Machine: description{Kernel: kernel}, Peers: []participant{{Name: nameAdit, Version: "1"}}, Samples: samples}
	}
	old := of("1", sample{Workload: "up1", Peer: nameAdit, Round: 1}, sample{Workload: "rtt", Peer: nameAdit, Round: 1})
	fresh := of("1", sample{Workload: "up1", Peer: nameAdit, Round: 2})
	if err := fresh.adopt(old); err != nil {
		t.Fatal(err)
	}
	want := []sample{{Workload: "rtt", Peer: nameAdit, Round: 1}, {Workload: "up1", Peer: nameAdit, Round: 2}}
	if !reflect.DeepEqual(fresh.Samples, want) {
		t.Errorf("adopted: %+v, want %+v", fresh.Samples, want)
	}
	// Nobody gets a second try alone.
	old.Samples = append(old.Samples, sample{Workload: "rtt", Peer: nameSSH, Round: 1}, sample{Workload: "up1", Peer: nameSSH, Round: 1})
	fresh = of("1", sample{Workload: "up1", Peer: nameSSH, Round: 1}, sample{Workload: "rtt", Peer: nameChisel, Round: 1})
	if err := fresh.adopt(old); err != nil {
		t.Fatal(err)
	}
	want = []sample{old.Samples[1], old.Samples[2], fresh.Samples[2], fresh.Samples[3]}
	if !reflect.DeepEqual(fresh.Samples, want) || fresh.Samples[2].Workload != "up1" {
		t.Errorf("adopted: %+v, want %+v", fresh.Samples, want)
	}
	if err := of("2").adopt(old); err == nil {
		t.Error("figures of another machine are adopted")
	}
	other := of("1")
	other.Peers[0].Version = "2"
	if err := other.adopt(old); err == nil {
		t.Error("figures of another version are adopted")
	}
}

// The report says when some were measured more often than others.
func TestRounds(t *testing.T) {
	var r record
	add := func(workload string, rounds int) {
		for i := range rounds {
			r.Samples = append(r.Samples, sample{Workload: workload, Peer: nameAdit, Round: i + 1})
		}
	}
	for _, c := range []struct {
		workload string
		rounds   int
		want     string
	}{{"none", 0, "0 rounds"}, {"up1", 5, "5 rounds"}, {"down1", 5, "5 rounds"}, {"rtt", 2, "2 to 5 rounds"}, {"new1", 9, "2 to 9 rounds"}} {
		if add(c.workload, c.rounds); r.rounds() != c.want {
			t.Errorf("with %s: %s, want %s", c.workload, r.rounds(), c.want)
		}
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1234.5: "1234", 123.4: "123", 12.34: "12.3", 12: "12", 1.234: "1.23", 1: "1", 0.5: "0.5",
		0.01234: "0.0123", 0.000001234: "0.000001", -2.5: "-2.5", 99.96: "100", 9.999: "10",
	} {
		if got := short(v); got != want {
			t.Errorf("short(%v) = %q, want %q", v, got, want)
		}
	}
}

// The near end of a route masks what it sends, answers pings and reads frames of every length.
func TestWebSocket(t *testing.T) {
	sizes := []int{1, 125, 126, 1<<16 - 1, 1 << 16}
	masked := make(chan error, 1)
	addr := testnet.Serve(t, func(c net.Conn) {
		masked <- func() error {
			buf := make([]byte, 4096)
			if _, err := c.Read(buf); err != nil {
				return err
			}
			fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
			c.Write([]byte{frameFin | opPing, 2, 'h', 'i'})
			for _, n := range sizes {
				h := []byte{frameFin | opBinary}
				switch {
				case n < 126:
					h = append(h, byte(n))
				case n < 1<<16:
					h = binary.BigEndian.AppendUint16(append(h, 126), uint16(n))
				default:
					h = binary.BigEndian.AppendUint64(append(h, 127), uint64(n))
				}
				c.Write(append(h, noise[:n]...))
			}
			pong := make([]byte, 8)
			if _, err := io.ReadFull(c, pong); err != nil {
				return err
			}
			key := [4]byte(pong[2:6])
			mask(pong[6:], key)
			if pong[0] != frameFin|opPong || pong[1] != frameMasked|2 || string(pong[6:]) != "hi" {
				return fmt.Errorf("the answer to a ping is % x", pong)
			}
			frame := make([]byte, 4+4+1000)
			if _, err := io.ReadFull(c, frame); err != nil {
				return err
			}
			mask(frame[8:], [4]byte(frame[4:8]))
			if frame[0] != frameFin|opBinary || frame[1] != frameMasked|126 || string(frame[8:]) != string(noise[:1000]) {
				return fmt.Errorf("a message begins with % x", frame[:8])
			}
			return nil
		}()
	})
	ws, err := dialRoute(addr, "/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	for _, n := range sizes {
		got := make([]byte, n)
		if _, err := io.ReadFull(ws, got); err != nil || string(got) != string(noise[:n]) {
			t.Fatalf("a frame of %d bytes: %v", n, err)
		}
	}
	if n, err := ws.Write(noise[:1000]); n != 1000 || err != nil {
		t.Errorf("Write returns %d, %v", n, err)
	}
	if err := <-masked; err != nil {
		t.Error(err)
	}
}
