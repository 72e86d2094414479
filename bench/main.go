//go:build linux

// Command bench measures adit beside other tunnels and gateways on this machine and writes a report.
// "bench compare" measures several adit binaries beside each other and prints ratios.
//
// It starts every program itself, sends data through it that it checks at the other end, and ends it.
// The programs take turns, so that a disturbance of the machine affects all of them alike: see
// measurement.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(playMain(role))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second signal ends this program at once, and the kernel ends its children
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

// run writes the report, or compares binaries if the first argument is "compare".
func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "compare" {
		return runCompare(ctx, args[1:])
	}
	return runReport(ctx, args)
}

// raiseFileLimit raises the limit of open files for this program and its children to the hard limit.
// Without it Go gives children the soft limit that it found.
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
