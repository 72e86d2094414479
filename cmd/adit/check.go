package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"adit/internal/clientd"
	"adit/internal/config"
	"adit/internal/daemon"
	"adit/internal/diagnose"
	"adit/internal/hint"
	"adit/mux"
)

func checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [flags] wss://HOST[:PORT][/PATH]",
		Short: "test every hop to the server and say which one fails and why",
		Long: `Connects as adit client does, with its flags and configuration, and prints one
line for each hop: configuration, DNS, TCP, proxy, TLS (with issuer and pin,
which reveal an inspecting proxy), upgrade, authentication; then policy and
target for each forward or --target, the round-trip time, and with --throughput
how fast a target takes data. It stops at the first hop that fails, says what to
do, and goes on with the next server if there are several. Exit status: 0 all
good, 1 a hop failed, 2 bad configuration.`,
		Example: `  adit check --token-file token wss://gw.example.com/tunnel
  adit check --config /etc/adit/client.toml
      tests every forward in the file
  adit check --token-file token --target db.lan:5432 --target ssh wss://gw.example.com
  adit check --token-file token --throughput 127.0.0.1:9 wss://gw.example.com
      with a target that takes any data, such as discard or echo
  adit check --proxy http://proxy.corp:3128 --token-file token wss://gw.example.com`,
	}
	config.ClientFlags(cmd.Flags())
	acceptNoCommand(cmd)
	// These are accepted, so that a client's command line can be pasted.
	cmd.Flags().Lookup("stdio").Hidden = true
	for _, name := range withoutEffect {
		cmd.Flags().Lookup(name).Hidden = true
	}
	targets := cmd.Flags().StringArray("target", nil, "test this HOST:PORT, unix:PATH or NAME too (repeatable)")
	throughput := cmd.Flags().String("throughput", "", "send data to this target for two seconds")
	timeout := durationFlag(cmd.Flags(), "timeout", 10*time.Second, "time limit for each hop")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return runCheck(cmd, args, *targets, *throughput, *timeout)
	}
	return cmd
}

// withoutEffect are the client's flags that change nothing in a check.
var withoutEffect = []string{
	"server-order", "prefer-interval", "ping-interval", "link-wait", "resume-timeout", "max-connection-age", "exit-on-refusal",
	"log-level", "log-format", "admin-listen", "admin-pprof", "metrics-listen",
}

func runCheck(cmd *cobra.Command, args, targets []string, throughput string, timeout time.Duration) error {
	c, faults := config.LoadClient(sources(cmd, args), false)
	log, _ := daemon.NewLogger(c.Log, cmd.ErrOrStderr())
	options, more := clientd.DialOptions(c, os.Getenv, log)
	faults = append(faults, more...)
	parse := func(flag, text string) mux.Target {
		a, err := config.ParseStdio(text)
		if err != nil {
			faults.Add(flag, err)
		}
		return clientd.Target(a)
	}
	check := diagnose.Check{
		Out: cmd.OutOrStdout(), Dial: options, ConfigFile: c.File, Timeout: timeout,
		Warnings: clientd.Warnings(c, os.Getenv),
	}
	for _, name := range withoutEffect {
		if cmd.Flags().Changed(name) {
			check.Ignored = append(check.Ignored, "--"+name)
		}
	}
	for _, f := range c.Forwards {
		check.Targets = append(check.Targets, clientd.Target(f.Target))
	}
	if !c.Stdio.IsZero() {
		check.Targets = append(check.Targets, clientd.Target(c.Stdio))
	}
	for _, text := range targets {
		check.Targets = append(check.Targets, parse("--target", text))
	}
	if throughput != "" {
		t := parse("--throughput", throughput)
		check.Throughput = &t
	}
	if timeout <= 0 {
		faults.Add("--timeout", hint.Errorf("write a duration, e.g. --timeout 10s", "%v is not positive", timeout))
	}
	if err := faults.Err(); err != nil {
		return err
	}
	if err := check.Run(cmd.Context(), c.Servers); err != nil {
		return &reported{err}
	}
	return nil
}
