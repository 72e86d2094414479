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
	tls     bool // TLS to the route
	alone   bool // each peer is started for it and ended after it
	columns []column
	run     func(context.Context, *stage, settings) (values, error)
}

// Settings apply to every workload.
type settings struct {
	d    time.Duration // measured part of most workloads
	idle int           // idle connections to hold
}

// Values are the results of a workload by key.
type values map[string]float64

// Keys of values.
const (
	keyRate   = "MiB/s"
	keyCPU    = "CPU-s/GiB"
	keyP50    = "p50 ms"
	keyP99    = "p99 ms"
	keyShare  = "% of alone"
	keyUse    = "link use %"
	keyConns  = "connections/s"
	keyCost   = "CPU-ms/connection"
	keyClient = "kB client"
	keyServer = "kB server"
	keyHeld   = "held"
	keyTrips  = "round trips"
)

// A column is one value of a workload in the report.
type column struct {
	key   string
	title string
	sense sense
	chart bool
}

// Sense is which values are better.
type sense int

const (
	neither sense = iota
	moreIsBetter
	lessIsBetter
)

func (w workload) column(key string) column {
	i := slices.IndexFunc(w.columns, func(c column) bool { return c.key == key })
	return w.columns[i]
}

// adit returns the name under which adit takes part.
func (w workload) adit() string {
	if w.route {
		return nameAditRoute
	}
	return nameAdit
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1e3 }
