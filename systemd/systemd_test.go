package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// activated is an environment variable, set in the child process that acts as
// a socket-activated service.
const activated = "SYSTEMD_TEST_ACTIVATED"

func TestMain(m *testing.M) {
	if os.Getenv(activated) != "" {
		os.Exit(activatedChild())
	}
	goleak.VerifyTestMain(m)
}

// activatedChild prints the sockets that Listeners returns. systemd sets
// LISTEN_PID between fork and exec; the test's child sets it itself.
func activatedChild() int {
	os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	listeners, err := Listeners()
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	var lines []string
	for name, ls := range listeners {
		for _, l := range ls {
			lines = append(lines, name+" "+l.Addr().String())
		}
	}
	slices.Sort(lines)
	fmt.Println(strings.Join(lines, "\n"))
	if again, err := Listeners(); err != nil || len(again) > 0 {
		fmt.Println("second call:", again, err)
		return 1
	}
	return 0
}

func child(t *testing.T, names string, files ...*os.File) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), activated+"=1", "LISTEN_FDS="+strconv.Itoa(len(files)), "LISTEN_FDNAMES="+names)
	cmd.ExtraFiles = files
	out, _ := cmd.CombinedOutput()
	return strings.TrimSpace(string(out))
}

func listenerFile(t *testing.T, network, addr string) (*os.File, string) {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); f.Close() })
	return f, l.Addr().String()
}

func TestListeners(t *testing.T) {
	a, aAddr := listenerFile(t, "tcp", "127.0.0.1:0")
	b, bAddr := listenerFile(t, "tcp", "127.0.0.1:0")
	u, uAddr := listenerFile(t, "unix", filepath.Join(t.TempDir(), "s"))
	want := []string{"adit-server.socket " + aAddr, "adit-server.socket " + bAddr, "local " + uAddr}
	slices.Sort(want)
	if got := child(t, "adit-server.socket:adit-server.socket:local", a, b, u); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	if _, err := os.Stat(uAddr); err != nil {
		t.Errorf("the service removed systemd's socket: %v", err)
	}
}

func TestListenersRefusesOthers(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := child(t, "odd", f); !strings.Contains(got, `take over socket "odd" from systemd`) {
		t.Error(got)
	}
}

func TestWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	if l, err := Listeners(); err != nil || len(l) != 0 {
		t.Error(l, err)
	}
	if err := Ready("x"); err != nil {
		t.Error(err)
	}
	if err := Watchdog(t.Context(), alive, unreported(t)); err != nil {
		t.Error(err)
	}
}

// manager returns the receiving end of NOTIFY_SOCKET.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", path)
	return managerAt(t, path)
}

func managerAt(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() { c.Close() })
	return c
}

func receive(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestNotify(t *testing.T) {
	c := manager(t)
	for _, step := range []struct {
		send func() error
		want string
	}{
		{func() error { return Ready("two\nlines") }, "READY=1\nSTATUS=two lines"},
		{func() error { return Stopping("") }, "STOPPING=1"},
		{func() error { return Status("3 sessions") }, "STATUS=3 sessions"},
	} {
		if err := step.send(); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, c); got != step.want {
			t.Errorf("got %q, want %q", got, step.want)
		}
	}
	if err := Reloading(); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, c); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") || strings.HasSuffix(got, "=0") {
		t.Error(got)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
	if err := Ready(""); err == nil {
		t.Error("no error without a receiver")
	}
}

func alive(context.Context) error { return nil }

// unreported returns a report function that fails the test.
func unreported(t *testing.T) func(error) {
	return func(err error) { t.Errorf("reported: %v", err) }
}

// watchdog sets the environment variables that systemd sets for WatchdogSec=.
func watchdog(t *testing.T, usec string) {
	t.Setenv("WATCHDOG_USEC", usec)
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
}

func TestWatchdog(t *testing.T) {
	c := manager(t)
	watchdog(t, "200000")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Watchdog(ctx, alive, unreported(t)) }()
	for range 3 {
		if got := receive(t, c); got != "WATCHDOG=1" {
			t.Errorf("got %q", got)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	t.Setenv("WATCHDOG_USEC", "soon")
	if err := Watchdog(t.Context(), nil, nil); err == nil {
		t.Error("a bad interval is accepted")
	}
}

// A failed health check is reported and sends no keep-alive; a later success
// sends one.
func TestWatchdogHealthCheckFails(t *testing.T) {
	c := manager(t)
	watchdog(t, "40000")
	wedged := make(chan struct{})
	reports := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Watchdog(ctx, func(ctx context.Context) error {
			select {
			case <-wedged:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, func(err error) {
			select {
			case reports <- err:
			default:
			}
		})
	}()
	for range 2 {
		if err := <-reports; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("reported: %v", err)
		}
	}
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if n, err := c.Read(make([]byte, 100)); err == nil {
		t.Errorf("the manager got %d bytes", n)
	}
	c.SetReadDeadline(time.Now().Add(time.Minute))
	close(wedged)
	if got := receive(t, c); got != "WATCHDOG=1" {
		t.Errorf("got %q", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A keep-alive that cannot be sent is reported and sent again later.
func TestWatchdogSendFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", path)
	watchdog(t, "40000")
	reports := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Watchdog(ctx, alive, func(err error) {
			select {
			case reports <- err:
			default:
			}
		})
	}()
	select {
	case err := <-reports:
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("reported: %v", err)
		}
	case err := <-done:
		t.Fatalf("Watchdog returned: %v", err)
	}
	if got := receive(t, managerAt(t, path)); got != "WATCHDOG=1" {
		t.Errorf("got %q", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestExtendStop(t *testing.T) {
	c := manager(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); ExtendStop(ctx, alive, unreported(t)) }()
	if got := receive(t, c); got != "EXTEND_TIMEOUT_USEC=15000000" {
		t.Errorf("got %q", got)
	}
	cancel()
	<-done
}
