//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
)

// A group is a section of the report, with one chart.
type group struct {
	name      string // for -only, and of the chart's file
	title     string
	text      string
	workloads []workload
}

// plan returns everything that can be measured, in the order of the report.
func plan() []group {
	oneStream := []column{rate(true), cpu(true)}
	bulk := []column{rate(true), cpu(false)}
	roundTrip := []column{p50(true), p99(false)}
	beside := []column{p50(true), p99(true), bulkRate(false)}
	slow := []column{p50(false), p99(true), bulkRate(false), {keyUse, "link use, %", moreIsBetter, true}}
	conns := []column{{keyConns, "connections/s", moreIsBetter, true}, {keyCost, "CPU-ms each", lessIsBetter, false}}
	idle := []column{
		{keyHeld, "connections", neither, false},
		{keyClient, "kB each, client", lessIsBetter, true}, {keyServer, "kB each, server", lessIsBetter, true},
		bulkRate(false), {keyShare, "bulk, % of alone", moreIsBetter, false},
	}
	return []group{
		{"veth", "Two network namespaces", "Client and server in network namespaces of their own, joined by a veth pair: packets cross two network stacks, at the speed of the machine. The processor time is of client and server together.", []workload{
			{name: "veth-up1", title: "1 stream, upload", path: vethPath, columns: oneStream, run: transfer(1, up)},
			{name: "veth-down1", title: "1 stream, download", path: vethPath, columns: oneStream, run: transfer(1, down)},
			{name: "veth-up8", title: "8 streams, upload", path: vethPath, columns: oneStream, run: transfer(8, up)},
			{name: "veth-down8", title: "8 streams, download", path: vethPath, columns: oneStream, run: transfer(8, down)},
			{name: "veth-up256", title: "256 streams, upload", path: vethPath, columns: bulk, run: transfer(256, up)},
			{name: "veth-down256", title: "256 streams, download", path: vethPath, columns: bulk, run: transfer(256, down)},
			{name: "veth-rtt", title: "idle round trip", path: vethPath, columns: roundTrip, run: idleRoundTrip},
			{name: "veth-new1", title: "connections one after the other", path: vethPath, columns: conns, run: newConnections(1)},
			{name: "veth-beside-up", title: "keystroke beside an upload", path: vethPath, columns: beside, run: besideBulk(up)},
			{name: "veth-beside-down", title: "keystroke beside a download", path: vethPath, columns: beside, run: besideBulk(down)},
		}},
		{"loopback", "Loopback", "The same without a network: a test for regressions. Few tunnels run on one host.", []workload{
			{name: "up1", title: "1 stream, upload", columns: bulk, run: transfer(1, up)},
			{name: "down1", title: "1 stream, download", columns: bulk, run: transfer(1, down)},
			{name: "rtt", title: "idle round trip", columns: roundTrip, run: idleRoundTrip},
			{name: "new1", title: "connections one after the other", columns: conns, run: newConnections(1)},
			{name: "new32", title: "connections, 32 at once", columns: conns, run: newConnections(32)},
			{name: "beside-up", title: "keystroke beside an upload", columns: beside, run: besideBulk(up)},
			{name: "beside-down", title: "keystroke beside a download", columns: beside, run: besideBulk(down)},
		}},
		{"first", "First byte over 100 ms", "How many round trips of the path an application waits from its connect to the first byte of an answer. The tunnel is up before.", []workload{
			{name: "first", title: "path of 100 ms", path: plainPath, columns: []column{{keyTrips, "round trips to the first byte", lessIsBetter, true}}, run: firstByte},
		}},
		{"idle", "Idle connections", "Resident memory that each connection adds after it has carried a byte in both directions, and an upload beside them. Programs that need two descriptors or a thread for a connection hold fewer: a process may have 20,000 descriptors.", []workload{
			{name: "idle", title: "memory, and an upload beside them", alone: true, columns: idle, run: idleConnections},
		}},
		{"loss", "Path with loss", "100 Mbit/s (11.9 MiB/s), a round trip of 40 ms and 1 % of the packets lost at random in each direction.", []workload{
			{name: "loss-up1", title: "1 stream, upload", path: lossyPath, columns: bulk, run: transfer(1, up)},
			{name: "loss-down1", title: "1 stream, download", path: lossyPath, columns: bulk, run: transfer(1, down)},
			{name: "loss-up8", title: "8 streams, upload", path: lossyPath, columns: bulk, run: transfer(8, up)},
			{name: "loss-down8", title: "8 streams, download", path: lossyPath, columns: bulk, run: transfer(8, down)},
			{name: "loss-beside", title: "keystroke beside an upload", path: lossyPath, columns: beside, run: besideBulk(up)},
		}},
		{"long", "Long path", "One stream over 1 Gbit/s (119 MiB/s) with a round trip of 100 ms; and one after ten others that were busy before and are still open. A relay of bytes makes the delay, so that the tunnel's windows count and those of TCP do not.", []workload{
			{name: "long-up", title: "upload", path: longPath, columns: bulk, run: transfer(1, up)},
			{name: "long-down", title: "download", path: longPath, columns: bulk, run: transfer(1, down)},
			{name: "long-after", title: "download after ten others", path: longPath, columns: bulk, run: transferAfter(10, down)},
		}},
		{"slow", "Narrow path with a deep buffer", "A byte every 5 ms beside a stream that takes all it can get, over a path whose bottleneck queues up to a second before it drops packets. A byte cannot be back before the round trip of the path. “Link use” is of the bits that passed the bottleneck.", []workload{
			{name: "slow100-up", title: "100 Mbit/s, 20 ms, beside an upload", path: slowPath, columns: slow, run: onSlowPath(up)},
			{name: "slow100-down", title: "100 Mbit/s, 20 ms, beside a download", path: slowPath, columns: slow, run: onSlowPath(down)},
			{name: "slow20-up", title: "20 Mbit/s, 50 ms, beside an upload", path: slowerPath, columns: slow, run: onSlowPath(up)},
			{name: "slow20-down", title: "20 Mbit/s, 50 ms, beside a download", path: slowerPath, columns: slow, run: onSlowPath(down)},
		}},
		{"route", "Route for plain WebSockets", "One WebSocket, with random masks and messages of 64 KiB from the client, to a TCP backend, on loopback. The processor time is of the gateway alone.", []workload{
			{name: "route-up", title: "over TLS, to the backend", route: true, tls: true, columns: oneStream, run: transfer(1, up)},
			{name: "route-down", title: "over TLS, to the client", route: true, tls: true, columns: oneStream, run: transfer(1, down)},
			{name: "route-rtt", title: "over TLS, round trip", route: true, tls: true, columns: roundTrip, run: idleRoundTrip},
			{name: "route-plain-up", title: "without TLS, to the backend", route: true, columns: bulk, run: transfer(1, up)},
			{name: "route-plain-down", title: "without TLS, to the client", route: true, columns: bulk, run: transfer(1, down)},
		}},
	}
}

func rate(chart bool) column     { return column{keyRate, "MiB/s", moreIsBetter, chart} }
func cpu(chart bool) column      { return column{keyCPU, "CPU-s per GiB", lessIsBetter, chart} }
func bulkRate(chart bool) column { return column{keyRate, "bulk MiB/s", moreIsBetter, chart} }
func p50(chart bool) column      { return column{keyP50, "p50 ms", lessIsBetter, chart} }
func p99(chart bool) column      { return column{keyP99, "p99 ms", lessIsBetter, chart} }

// allWorkloads returns the workloads of all groups.
func allWorkloads() (all []workload) {
	for _, g := range plan() {
		all = append(all, g.workloads...)
	}
	return all
}

// groupOf returns the group of a workload.
func groupOf(name string) group {
	for _, g := range plan() {
		if slices.ContainsFunc(g.workloads, func(w workload) bool { return w.name == name }) {
			return g
		}
	}
	return group{}
}

// choices lists what chooseWorkloads accepts.
func choices() string {
	var all []string
	for _, g := range plan() {
		for _, w := range g.workloads {
			all = append(all, w.name)
		}
	}
	return strings.Join(all, " ")
}

// chooseWorkloads returns those named in a list of workloads and groups with commas between, in the
// order of the plan.
func chooseWorkloads(only string) ([]workload, error) {
	names := strings.Split(only, ",")
	found := make(map[string]bool)
	var all []workload
	for _, g := range plan() {
		for _, w := range g.workloads {
			for _, name := range []string{g.name, w.name} {
				found[name] = true
			}
			if slices.Contains(names, g.name) || slices.Contains(names, w.name) {
				all = append(all, w)
			}
		}
	}
	for _, name := range names {
		if !found[name] {
			return nil, fmt.Errorf("there is no workload %q: there are %s", name, choices())
		}
	}
	return all, nil
}
