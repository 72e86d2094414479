package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"adit/internal/config"
	"adit/internal/statusview"
)

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [flags]",
		Short: "show sessions, streams and traffic of a running server or client",
		Long: `Asks a running adit for its sessions, streams, bytes and round-trip times, and
for what it refused. Without --admin it asks every systemd service of this
machine: ` + strings.Join(statusview.ServiceSockets, ", ") + `.

Any other server or client can be asked if it runs with --admin-listen. If that
is a TCP address on loopback, a browser shows the same at /, and Prometheus reads
/metrics. Only root and the user that adit runs as can ask a unix socket. Exit
status: 0 every one answered (with --ready: and is ready), 1 one did not, 2 bad
command line.`,
		Example: `  adit status
  adit status --admin unix:/run/user/1000/adit.sock --watch
  adit status --ready && echo up
  adit status --json | jq '.sessions[] | {user, address, streams}'`,
		Args: noArgs,
	}
	address := cmd.Flags().String("admin", "", "admin address to ask: unix:PATH, HOST:PORT or the status page's URL, as its --admin-listen")
	watch := cmd.Flags().BoolP("watch", "w", false, "refresh every --interval, with rates, until interrupted")
	asJSON := cmd.Flags().Bool("json", false, "print the JSON of /status; with --watch one document per line")
	ready := cmd.Flags().Bool("ready", false, "only say whether each is ready, as /readyz; exit status 1 if one is not")
	interval := durationFlag(cmd.Flags(), "interval", 2*time.Second, "time between refreshes with --watch")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *interval < 100*time.Millisecond {
			return badUsage("write 100ms or more, e.g. --interval 5s", "--interval %v is too short", *interval)
		}
		sources, err := statusSources(*address)
		if err != nil {
			return err
		}
		v := &statusview.View{Out: cmd.OutOrStdout(), Sources: sources, JSON: *asJSON, Watch: *watch, Ready: *ready}
		return v.Run(cmd.Context(), *interval)
	}
	return cmd
}

// statusSources returns the source at the address that --admin gives, or those of
// the services of this machine.
func statusSources(given string) ([]*statusview.Source, error) {
	if given == "" {
		return statusview.FindSources(statusview.ServiceSockets)
	}
	// The URL of the page that a browser shows.
	address, isURL := strings.CutPrefix(given, "http://")
	if isURL {
		address, _, _ = strings.Cut(address, "/")
	}
	a, err := config.ParseTarget(address)
	if err != nil {
		return nil, badUsage("write unix:/run/adit/admin.sock or 127.0.0.1:9090", "--admin: %w", err)
	}
	return []*statusview.Source{statusview.NewSource(a)}, nil
}
