//go:build linux

package main

import (
	"context"
	"slices"
	"time"
)

// A workload is one thing to measure.
type workload struct {
	name    string // for -only
	title   string
	path    path
	route   bool // for gateways instead of tunnels
	tls     bool // to the route
	own     bool // for adit alone
	columns []column
	run     func(context.Context, *stage, settings) (values, error)
}

// A column is one figure of a workload.
type column struct {
	key   string
	title string
	sense sense
	chart bool
}

type sense int

const (
	neither sense = iota
	moreIsBetter
	lessIsBetter
)

// A group is workloads that belong together: a section of the report with one picture.
type group struct {
	name      string // of the picture's file
	title     string
	text      string
	workloads []workload
}

func rate(chart bool) column   { return column{keyRate, "MiB/s", moreIsBetter, chart} }
func cpu(chart bool) column    { return column{keyCPU, "CPU-s per GiB", lessIsBetter, chart} }
func bulkRate(c bool) column   { return column{keyRate, "bulk MiB/s", moreIsBetter, c} }
func share() column            { return column{keyShare, "bulk, % of alone", moreIsBetter, false} }
func middle(chart bool) column { return column{keyP50, "p50 ms", lessIsBetter, chart} }
func worst(chart bool) column  { return column{keyP99, "p99 ms", lessIsBetter, chart} }

// The paths of the plan.
var (
	longPath  = path{rate: 1e9, rtt: 100 * time.Millisecond, depth: 20 * time.Millisecond, relay: true}
	plainPath = path{rtt: 100 * time.Millisecond}
	slowPath  = path{rate: 100e6, rtt: 20 * time.Millisecond, depth: time.Second}
	slower    = path{rate: 20e6, rtt: 50 * time.Millisecond, depth: time.Second}
)

// plan is all that is measured.
func plan() []group {
	bulkColumns := []column{rate(true), cpu(false)}
	oneStream := []column{rate(true), cpu(true)}
	many := []column{rate(true), cpu(false), {keyOfOne, "MiB/s, × of 1 stream", moreIsBetter, false}}
	beside := []column{middle(true), worst(true), bulkRate(false), share()}
	slow := []column{middle(false), worst(true), bulkRate(false), {keyUse, "link use, %", moreIsBetter, true}}
	conns := []column{{keyConns, "connections/s", moreIsBetter, true}, {keyCost, "CPU-ms each", lessIsBetter, false}}
	resumption := []column{
		{keyRateRatio, "MiB/s, × of off", moreIsBetter, false}, {keyCPURatio, "CPU-s per GiB, × of off", lessIsBetter, false},
		rate(false), cpu(false),
	}
	return []group{
		{"throughput", "Throughput", "One direction at a time, as fast as it goes. The processor time is of both ends of the tunnel. Many streams take turns of about a second with one in a tunnel of its own: “× of 1 stream” is of that, since a machine does not stay the same from one workload to the next.", []workload{
			{name: "up1", title: "1 stream, upload", columns: oneStream, run: transfer(true)},
			{name: "down1", title: "1 stream, download", columns: oneStream, run: transfer(false)},
			{name: "up8", title: "8 streams, upload", columns: many, run: manyStreams(8, true)},
			{name: "down8", title: "8 streams, download", columns: many, run: manyStreams(8, false)},
			{name: "up256", title: "256 streams, upload", columns: many, run: manyStreams(256, true)},
			{name: "down256", title: "256 streams, download", columns: many, run: manyStreams(256, false)},
		}},
		{"resumption", "What resumption costs", "One stream, with adit and with “adit, resumption off”, which run beside each other and take turns of less than a second: so small a difference is lost in what a machine does from one start of a program to the next.", []workload{
			{name: "resume-up", title: "upload", own: true, columns: resumption, run: resumptionCost(true)},
			{name: "resume-down", title: "download", own: true, columns: resumption, run: resumptionCost(false)},
		}},
		{"latency", "Round trips", "One byte there and back: in an idle tunnel, the next one as soon as the last has come back; beside a stream that takes all it can get, one every 5 ms, whether or not those before have been answered. “% of alone” is what is left to that stream, which is alone by turns.", []workload{
			{name: "rtt", title: "idle tunnel", columns: []column{middle(true), worst(false)}, run: idleRoundTrip},
			{name: "beside-up", title: "beside an upload", columns: beside, run: besideBulk(true)},
			{name: "beside-down", title: "beside a download", columns: beside, run: besideBulk(false)},
		}},
		{"connections", "New connections", "Connect, a byte there and back, close. On the path of 100 ms nothing else is slow: there it counts how many round trips an application waits from its connect to the first byte of an answer. The link of the tunnel is up before.", []workload{
			{name: "new1", title: "one after the other", columns: conns, run: newConnections(1)},
			{name: "new32", title: "32 at once", columns: conns, run: newConnections(32)},
			{name: "first", title: "path of 100 ms", path: plainPath, columns: []column{{keyRounds, "round trips to the first byte", lessIsBetter, true}}, run: firstByte},
		}},
		{"idle", "Idle connections", "Resident memory that each adds, after it has carried a byte both ways, and an upload beside them all. Programs that need two descriptors or a thread for a connection hold fewer: a process may have 20,000 descriptors.", []workload{
			{name: "idle", title: "memory, and an upload beside them", columns: []column{
				{keyHeld, "connections", neither, false},
				{keyNear, "kB each, near end", lessIsBetter, true}, {keyFar, "kB each, far end", lessIsBetter, true},
				bulkRate(false), share(),
			}, run: idleCrowd},
		}},
		{"long", "Long path", "One stream over 1 Gbit/s (119 MiB/s) with a round trip of 100 ms; and one after ten others that were busy before, one after the other, and are still open. A relay of bytes makes the delay, so that windows of the tunnel count and those of TCP do not.", []workload{
			{name: "long-up", title: "upload", path: longPath, columns: bulkColumns, run: transfer(true)},
			{name: "long-down", title: "download", path: longPath, columns: bulkColumns, run: transfer(false)},
			{name: "long-after", title: "download after ten others", path: longPath, columns: bulkColumns, run: transferAfter(10, false)},
		}},
		{"slow", "Narrow path with a deep buffer", "A byte every 5 ms beside a stream that takes all it can get, over a path whose bottleneck queues up to a second before it drops: packets between network namespaces. A byte cannot be back before the round trip of the path. “Link use” is of the bits that passed the bottleneck.", []workload{
			{name: "slow100-up", title: "100 Mbit/s, 20 ms, beside an upload", path: slowPath, columns: slow, run: onSlowPath(true)},
			{name: "slow100-down", title: "100 Mbit/s, 20 ms, beside a download", path: slowPath, columns: slow, run: onSlowPath(false)},
			{name: "slow20-up", title: "20 Mbit/s, 50 ms, beside an upload", path: slower, columns: slow, run: onSlowPath(true)},
			{name: "slow20-down", title: "20 Mbit/s, 50 ms, beside a download", path: slower, columns: slow, run: onSlowPath(false)},
		}},
		{"route", "Route for plain WebSockets", "One WebSocket, with random masks and messages of 64 KiB from the client, to a TCP backend. The processor time is of the gateway alone.", []workload{
			{name: "route-up", title: "over TLS, to the backend", route: true, tls: true, columns: oneStream, run: transfer(true)},
			{name: "route-down", title: "over TLS, to the client", route: true, tls: true, columns: oneStream, run: transfer(false)},
			{name: "route-plain-up", title: "without TLS, to the backend", route: true, columns: bulkColumns, run: transfer(true)},
			{name: "route-plain-down", title: "without TLS, to the client", route: true, columns: bulkColumns, run: transfer(false)},
			{name: "route-rtt", title: "over TLS, round trip", route: true, tls: true, columns: []column{middle(true), worst(false)}, run: idleRoundTrip},
		}},
	}
}

// allWorkloads returns the plan without its groups.
func allWorkloads() (all []workload) {
	for _, g := range plan() {
		all = append(all, g.workloads...)
	}
	return all
}

// takesPart says whether a peer is tried with a workload.
func (w workload) takesPart(p *peer) bool {
	return p.route == w.route && (!w.own || p.name == nameAdit)
}

// A goal is what adit is meant to reach.
type goal struct {
	workload, key string
	peer          string  // whose figure adit's is divided by, if any
	least, most   float64 // one of them
}

// goals returns the goals in the order of the report.
func goals() (all []goal) {
	for _, w := range []string{"up1", "down1"} {
		all = append(all,
			goal{w, keyRate, nameStunnel, 1.15, 0}, goal{w, keyRate, nameSSH, 1, 0}, goal{w, keyRate, nameChisel, 2.6, 0},
			goal{w, keyCPU, nameStunnel, 0, 0.85}, goal{w, keyCPU, nameChisel, 0, 0.33})
	}
	for _, w := range []string{"up8", "down8", "up256", "down256"} {
		all = append(all, goal{w, keyOfOne, "", 0.95, 0})
	}
	for _, w := range []string{"resume-up", "resume-down"} {
		all = append(all, goal{w, keyRateRatio, "", 0.97, 0}, goal{w, keyCPURatio, "", 0, 1.03})
	}
	all = append(all, goal{"rtt", keyP50, nameStunnel, 0, 0.75}, goal{"rtt", keyP50, nameChisel, 0, 0.8})
	for _, w := range []string{"beside-up", "beside-down"} {
		all = append(all, goal{w, keyP50, nameChisel, 0, 0.05}, goal{w, keyP99, nameChisel, 0, 0.15}, goal{w, keyShare, "", 90, 0})
	}
	for _, w := range []string{"new1", "new32"} {
		all = append(all, goal{w, keyConns, nameSSH, 1, 0}, goal{w, keyConns, nameChisel, 1.8, 0})
	}
	all = append(all,
		goal{"first", keyRounds, "", 0, 1.1}, // the machine's own part is in it
		goal{"idle", keyNear, "", 0, 10}, goal{"idle", keyFar, "", 0, 10}, goal{"idle", keyShare, "", 95, 0},
		goal{"long-up", keyRate, nameStunnel, 0.85, 0}, goal{"long-down", keyRate, nameStunnel, 0.85, 0})
	for _, w := range []string{"slow100-up", "slow100-down"} {
		all = append(all, goal{w, keyP99, "", 0, 35}, goal{w, keyUse, "", 95, 0})
	}
	for _, w := range []string{"slow20-up", "slow20-down"} {
		all = append(all, goal{w, keyP99, "", 0, 90}, goal{w, keyUse, "", 90, 0})
	}
	for _, w := range []string{"route-up", "route-down", "route-plain-up", "route-plain-down"} {
		all = append(all, goal{w, keyRate, nameLighttpd, 1, 0}, goal{w, keyCPU, nameLighttpd, 0, 1})
	}
	return all
}

// ours returns the name under which adit takes part in a workload.
func (w workload) ours() string {
	if w.route {
		return nameAditRoute
	}
	return nameAdit
}

func (w workload) column(key string) column {
	i := slices.IndexFunc(w.columns, func(c column) bool { return c.key == key })
	return w.columns[i]
}
