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

// ExtendTimeout asks for d more before the manager loses patience with a stop.
func ExtendTimeout(d time.Duration) error {
	return notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds()), "")
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

// Watchdog pings the manager at half the interval that WatchdogSec= asks for,
// for as long as alive returns true, until ctx ends. Without WatchdogSec= it
// returns at once. alive must not block: when it does not return, the pings
// stop and the manager restarts the service, which is the point.
func Watchdog(ctx context.Context, alive func() bool) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("read the watchdog's interval: %w", err)
	}
	if interval <= 0 {
		return nil
	}
	tick := time.NewTicker(max(interval/2, time.Millisecond))
	defer tick.Stop()
	for {
		if alive() {
			if err := notify(daemon.SdNotifyWatchdog, ""); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
