package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"adit/certs"
	"adit/internal/config"
	"adit/internal/hint"
	"adit/mux"
	"adit/tunnel/dial"
)

func checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [flags] wss://HOST[:PORT][/PATH]",
		Short: "test every hop to the server and say which one fails and why",
		Long: `Walks the way of adit client, with its flags and configuration, and prints one
line for each hop: configuration, DNS, TCP, proxy, TLS (with issuer and pin, so
that an inspecting proxy shows), upgrade, authentication; then policy and target
for each forward or --target, the round-trip time, and with --throughput how
fast a target takes data. It stops at the first hop that fails and says what to
do. Exit status: 0 all good, 1 a hop failed, 2 bad configuration.`,
		Example: `  adit check --token-file token wss://gw.example.com/tunnel
  adit check --config /etc/adit/client.toml
      asks for every forward in the file
  adit check --token-file token --target db.lan:5432 --target ssh wss://gw.example.com
  adit check --token-file token --throughput 127.0.0.1:9 wss://gw.example.com
      with a target that takes anything, such as discard or echo
  adit check --proxy http://proxy.corp:3128 --token-file token wss://gw.example.com`,
	}
	config.ClientFlags(cmd.Flags())
	for _, name := range []string{"stdio", "link-wait", "exit-on-refusal", "ping-interval", "log-level", "log-format"} {
		cmd.Flags().Lookup(name).Hidden = true // accepted, so that a client's command line can be pasted
	}
	targets := cmd.Flags().StringArray("target", nil, "ask for this HOST:PORT, unix:PATH or NAME too (repeatable)")
	throughput := cmd.Flags().String("throughput", "", "send data to this target for two seconds")
	timeout := cmd.Flags().Duration("timeout", 10*time.Second, "time for each hop")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return runCheck(cmd, args, *targets, *throughput, *timeout)
	}
	return cmd
}

func runCheck(cmd *cobra.Command, args, targets []string, throughput string, timeout time.Duration) error {
	c, faults := config.LoadClient(sources(cmd, args), false)
	log, _ := newLogger(c.Log, cmd.ErrOrStderr())
	dialer, more := newDialer(c, log)
	faults = append(faults, more...)
	k := &checker{out: cmd.OutOrStdout(), dialer: dialer, file: c.File, timeout: timeout}
	for _, f := range c.Forwards {
		k.targets = append(k.targets, muxTarget(f.Target))
	}
	if !c.Stdio.IsZero() {
		k.targets = append(k.targets, muxTarget(c.Stdio))
	}
	for _, t := range targets {
		a, err := config.ParseStdio(t)
		if err != nil {
			faults.Add("--target", err)
		}
		k.targets = append(k.targets, muxTarget(a))
	}
	if throughput != "" {
		a, err := config.ParseStdio(throughput)
		if err != nil {
			faults.Add("--throughput", err)
		}
		t := muxTarget(a)
		k.throughput = &t
	}
	if timeout <= 0 {
		faults.Add("--timeout", hint.Errorf("write a duration, e.g. --timeout 10s", "%v is not positive", timeout))
	}
	if err := faults.Err(); err != nil {
		return err
	}
	for _, w := range warnings(c) {
		k.note("warning", w)
	}
	dialer.ConnectTimeout, dialer.HandshakeTimeout = timeout, timeout
	dialer.Trace = k.event
	for i, server := range c.Servers {
		if len(c.Servers) > 1 {
			if i > 0 {
				fmt.Fprintln(k.out)
			}
			fmt.Fprintf(k.out, "%s\n", server)
		}
		if err := k.check(cmd.Context(), server); err != nil {
			return err
		}
	}
	return nil
}

// checker prints what it finds. Its first failure ends the check.
type checker struct {
	out        io.Writer
	dialer     *dial.Options
	file       string // the configuration's
	timeout    time.Duration
	targets    []mux.Target
	throughput *mux.Target
}

// line prints one hop.
func (k *checker) line(mark, hop, detail string, elapsed time.Duration) {
	took := ""
	if elapsed > 0 {
		took = rounded(elapsed)
	}
	fmt.Fprintf(k.out, "%s %-14s %9s  %s\n", mark, hop, took, detail)
}

func (k *checker) note(hop, detail string) { k.line("-", hop, detail, 0) }

func (k *checker) ok(hop, detail string, since time.Time) {
	k.line("✓", hop, detail, time.Since(since))
}

// fail prints the hop that failed, with what to do about it, and returns the
// error that ends the check.
func (k *checker) fail(hop string, err error, elapsed time.Duration) error {
	k.line("✗", hop, err.Error(), elapsed)
	if h := hint.Of(err); h != "" {
		k.line(" ", "", "hint: "+h, 0)
	}
	return &reported{fmt.Errorf("%s: %w", hop, err)}
}

func rounded(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// event prints the dialer's hops as they end.
func (k *checker) event(e dial.Event) {
	hop := string(e.Step)
	if e.Err != nil {
		return // Dial is about to return it
	}
	detail := e.Detail
	if e.Step == dial.StepConfiguration && k.file != "" {
		detail += ", " + k.file
	}
	if e.Addr != "" && !strings.Contains(detail, e.Addr) {
		detail = e.Addr + ": " + detail
	}
	k.line("✓", hop, detail, e.Elapsed)
	if e.Step == dial.StepTLS && e.TLS != nil && len(e.TLS.PeerCertificates) > 0 {
		k.note("", "pin "+certs.PinOf(e.TLS.PeerCertificates[0]).String())
	}
}

// check walks the whole way to one server and its targets.
func (k *checker) check(ctx context.Context, server string) error {
	start := time.Now()
	conn, err := dial.Dial(ctx, server, k.dialer)
	if err != nil {
		hop := "connection"
		var step *dial.Error
		if errors.As(err, &step) {
			hop = string(step.Step)
		}
		return k.fail(hop, err, time.Since(start))
	}
	start = time.Now()
	session, err := mux.Client(ctx, conn, &mux.Config{HandshakeTimeout: k.timeout, ResumeTimeout: -1})
	if err != nil {
		return k.fail("authentication", hint.With(err, "the server let the connection in but does not speak adit's protocol, or is of another version: see its log"), time.Since(start))
	}
	defer session.CloseReason(mux.CloseDone, "")
	k.ok("authentication", "the server accepts this client", start)
	for _, t := range k.targets {
		if err := k.target(ctx, session, t); err != nil {
			return err
		}
	}
	if len(k.targets) == 0 {
		k.note("policy, target", "not asked for: name one with --target db.lan:5432 or a forward")
	}
	if err := k.rtt(ctx, session); err != nil {
		return err
	}
	if k.throughput == nil {
		k.note("throughput", "not measured: --throughput TARGET sends to one that takes anything")
		return nil
	}
	return k.measure(ctx, session, *k.throughput)
}

// target asks the server to connect to a target.
func (k *checker) target(ctx context.Context, session *mux.Session, t mux.Target) error {
	start := time.Now()
	st, err := k.open(ctx, session, t)
	var refused *mux.RefusedError
	switch {
	case err == nil:
		st.Close()
		k.ok("policy", "the server lets this client reach "+t.String(), start)
		k.ok("target", t.String()+" accepts connections", start)
		return nil
	case !errors.As(err, &refused):
		return k.fail("target", fmt.Errorf("%s: %w", t, err), time.Since(start))
	}
	err = hint.Errorf(refusalHint(refused.Code), "%s: %w", t, err)
	if refused.Code == mux.Forbidden {
		return k.fail("policy", err, time.Since(start))
	}
	k.ok("policy", "the server lets this client ask for "+t.String(), start)
	return k.fail("target", err, time.Since(start))
}

// open opens a stream and waits for the server's answer.
func (k *checker) open(ctx context.Context, session *mux.Session, t mux.Target) (*mux.Stream, error) {
	// The server bounds its own dial at 10 s and then says so, which tells
	// more than a timeout here.
	ctx, cancel := context.WithTimeout(ctx, k.timeout+5*time.Second)
	defer cancel()
	st, err := session.Open(ctx, t)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, st.Abort)
	err = st.Result()
	stop()
	if err != nil {
		st.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer within %v", k.timeout+5*time.Second)
		}
		return nil, err
	}
	return st, nil
}

// rtt waits for the link's own measurement.
func (k *checker) rtt(ctx context.Context, session *mux.Session) error {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	session.Probe()
	for tick := time.NewTicker(time.Millisecond); session.RTT() == 0; {
		select {
		case <-tick.C:
		case <-session.Done():
			return k.fail("round trip", session.Err(), 0)
		case <-ctx.Done():
			return k.fail("round trip", hint.Errorf("something in between swallows WebSocket pings, or the path is stalled", "no answer to a ping within %v", k.timeout), 0)
		}
	}
	k.line("✓", "round trip", "to the server and back through the link", session.RTT())
	return nil
}

// measureFor is how long the throughput is measured, and measureMost how much
// is sent at most.
const (
	measureFor  = 2 * time.Second
	measureMost = 1 << 30
)

// measure sends to a target until the time is over. What a target sends back is
// counted, too.
func (k *checker) measure(ctx context.Context, session *mux.Session, t mux.Target) error {
	st, err := k.open(ctx, session, t)
	if err != nil {
		return k.fail("throughput", fmt.Errorf("%s: %w", t, err), 0)
	}
	start := time.Now()
	received := make(chan int64)
	go func() {
		n, _ := io.Copy(io.Discard, st) // ends with the Abort below
		received <- n
	}()
	var sent int64
	chunk := make([]byte, 64<<10)
	abort := context.AfterFunc(ctx, st.Abort)
	defer abort()
	stalled := time.AfterFunc(measureFor+k.timeout, st.Abort)
	defer stalled.Stop()
	for time.Since(start) < measureFor && sent < measureMost && err == nil {
		var n int
		n, err = st.Write(chunk)
		sent += int64(n)
	}
	elapsed := time.Since(start)
	st.Abort()
	back := <-received
	st.Close()
	if err != nil {
		return k.fail("throughput", hint.Errorf("the target must take any data: name an echo or discard service", "%s after %s: %w", t, size(sent), err), elapsed)
	}
	k.line("✓", "throughput", fmt.Sprintf("%s up, %s back: %s/s", size(sent), size(back), size(int64(float64(sent)/elapsed.Seconds()))), elapsed)
	return nil
}

// size prints a number of bytes.
func size(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
