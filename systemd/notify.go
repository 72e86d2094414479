package systemd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready tells the manager that the service is up, or that a reload is over,
// with a line for systemctl status.
func Ready(status string) error { return notify(daemon.SdNotifyReady, status) }

// Reloading tells the manager that a reload has begun. Ready must follow,
// whatever comes of it.
func Reloading() error {
	// Type=notify-reload wants to know that this is an answer to its signal
	// and not an older message.
	return notify(daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec(), "")
}

// Stopping tells the manager that the service is about to end by itself or as
// asked, with a line for systemctl status.
func Stopping(status string) error { return notify(daemon.SdNotifyStopping, status) }

// Status replaces the line that systemctl status shows.
func Status(status string) error { return notify("", status) }

func extendMessage(d time.Duration) string {
	return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds())
}

func notify(state, status string) error {
	if status != "" {
		status = "STATUS=" + strings.ReplaceAll(status, "\n", " ")
	}
	message := strings.Trim(state+"\n"+status, "\n")
	if _, err := daemon.SdNotify(false, message); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// Watchdog pings the manager for as long as alive returns nil, until ctx ends. It asks alive at every
// quarter of the interval that WatchdogSec= sets, and gives it another quarter: one answer that comes
// too late, on a machine that is overloaded, is not yet the end. Without WatchdogSec= it returns at
// once.
//
// An error of alive goes to report, and no ping to the manager, which ends the service and starts it
// anew when that lasts. So does the error of a ping that cannot be sent; the next one is tried in its
// time. alive must heed its ctx; one that never returns has the same effect.
func Watchdog(ctx context.Context, alive func(context.Context) error, report func(error)) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("read the watchdog's interval: %w", err)
	}
	if interval <= 0 {
		return nil
	}
	whileAlive(ctx, interval/4, daemon.SdNotifyWatchdog, alive, report)
	return nil
}

// The manager gives a service that is ending extension more each time, and is asked for it at every
// extendEvery.
const (
	extension   = 15 * time.Second
	extendEvery = 3 * time.Second
)

// ExtendStop keeps the manager from killing a service that has sent Stopping and needs more time than
// TimeoutStopSec=, for as long as alive returns nil, until ctx ends. See Watchdog for alive and report.
func ExtendStop(ctx context.Context, alive func(context.Context) error, report func(error)) {
	whileAlive(ctx, extendEvery, extendMessage(extension), alive, report)
}

// whileAlive sends a message at every interval at which alive returns nil within the interval.
func whileAlive(ctx context.Context, interval time.Duration, message string, alive func(context.Context) error, report func(error)) {
	interval = max(interval, time.Millisecond)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		within, cancel := context.WithTimeout(ctx, interval)
		err := alive(within)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = notify(message, "")
		}
		if err != nil {
			report(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
