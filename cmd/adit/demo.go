package main

import (
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"adit/internal/config"
	"adit/internal/daemon"
	"adit/internal/demo"
)

func demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "run a complete tunnel and gateway on this machine, to try it",
		Long: `Starts a server with throw-away keys, a client pinned to it, a small web backend
and one that answers lines of JSON, all on loopback and in this one process;
sends data through the tunnel both ways and compares digests, and a line of JSON
through a plain WebSocket; then keeps running, with a page for the browser, and
prints what to try. Nothing is written to disk and nothing is reachable from
outside.`,
		Example: `  adit demo
  adit demo --once --size 1GiB      prove it with 1 GiB each way and exit`,
		Args: noArgs,
	}
	mib := sizeFlag(cmd.Flags(), "size", 256, "how much to send each way; a number alone is in MiB")
	once := cmd.Flags().Bool("once", false, "exit after the proof")
	verbose := cmd.Flags().BoolP("verbose", "v", false, "show the logs of server and client")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		log := slog.New(slog.DiscardHandler)
		if *verbose {
			log, _ = daemon.NewLogger(config.Log{}, cmd.ErrOrStderr())
		}
		// Not SIGHUP: the demo ends with its terminal.
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err := demo.Run(ctx, demo.Options{
			Out: cmd.OutOrStdout(), Logger: log, Bytes: int64(*mib) << 20, Once: *once, Command: thisCommand(),
		})
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return cmd
}

// thisCommand returns how to run this program from a shell.
func thisCommand() string {
	path, err := os.Executable()
	if err != nil {
		return "adit"
	}
	if found, err := exec.LookPath("adit"); err == nil && found == path {
		return "adit"
	}
	if strings.Contains(filepath.ToSlash(path), "/go-build") { // go run deletes it in the end
		return "go run ./cmd/adit"
	}
	return path
}
