package systemd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready tells systemd that the service is ready or has reloaded. status is a
// line for systemctl status; "" leaves the previous one.
func Ready(status string) error { return notify(daemon.SdNotifyReady, status) }

// Reloading tells systemd that a reload has begun. Ready must follow, even if
// the reload fails.
func Reloading() error {
	// Type=notify-reload requires the time, to tell the answer to its signal
	// from an earlier message.
	return notify(daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec(), "")
}

// Stopping tells systemd that the service is ending. status is a line for
// systemctl status; "" leaves the previous one.
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

// Watchdog sends keep-alives to systemd until ctx ends. It calls alive in every quarter of the
// interval that WatchdogSec= sets, with a context that ends after a quarter, and sends a keep-alive
// if alive returned nil. So a single late answer on an overloaded machine does not end the service.
// Without WatchdogSec= it returns at once.
//
// Errors of alive and of sending go to report; the next attempt follows a quarter later. systemd
// restarts the service when it has received no keep-alive for WatchdogSec=. alive must return when
// its context ends; if it never returns, no keep-alive is sent either.
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

// A service that is stopping asks every extendEvery for another extension from then on.
const (
	extension   = 15 * time.Second
	extendEvery = 3 * time.Second
)

// ExtendStop extends the stop timeout of a service that has sent Stopping and needs more time than
// TimeoutStopSec=, until ctx ends, as long as alive returns nil. For alive and report see Watchdog.
func ExtendStop(ctx context.Context, alive func(context.Context) error, report func(error)) {
	whileAlive(ctx, extendEvery, extendMessage(extension), alive, report)
}

// whileAlive sends the message once per interval if alive returns nil within the interval.
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
