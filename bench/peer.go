//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// A peer is a program to measure, and how to run it.
type peer struct {
	name     string
	about    string   // description for the report
	programs []string // that it needs
	version  []string // command that prints the version
	adit     bool     // an adit binary
	route    bool     // a gateway from WebSocket to TCP instead of a tunnel
	most     int      // idle connections that one process can hold; 0 means no known limit

	// start starts the peer on the stage and returns the address that applications connect to.
	start func(*stage) (string, error)
}

// Names of peers that the plan and the goals refer to.
const (
	nameAdit       = "adit"
	nameNoResume   = "adit, resumption off"
	nameDirect     = "no tunnel"
	nameStunnel    = "stunnel"
	nameSSH        = "ssh"
	nameChisel     = "chisel"
	nameWstunnel   = "wstunnel"
	nameGost       = "gost"
	nameFrp        = "frp"
	nameAditRoute  = "adit route"
	nameLighttpd   = "lighttpd"
	nameWebsockify = "websockify"
)

// absent returns why the peer cannot run, or nil.
func (p *peer) absent() error {
	for _, name := range p.programs {
		if _, err := lookPath(name); err != nil {
			return fmt.Errorf("%s is not on PATH", name)
		}
	}
	return nil
}

var versionNumber = regexp.MustCompile(`v?\d+\.\d+[\w.+-]*`)

// versionOf returns the version that the peer prints, "" for no program.
func (p *peer) versionOf(ctx context.Context) string {
	if p.version == nil {
		return ""
	}
	path, err := lookPath(p.version[0])
	if err != nil {
		return "unknown"
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, path, p.version[1:]...).CombinedOutput() // some exit with 1
	if p.adit {                                                                 // an unreleased one has no number
		return strings.TrimSpace(string(out))
	}
	if v := versionNumber.Find(out); v != nil {
		return string(v)
	}
	first, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	return string(first)
}
