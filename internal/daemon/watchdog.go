package daemon

import (
	"context"
	"log/slog"

	"adit/systemd"
)

// Watchdog tells systemd, if its unit asks for it, that healthy returns nil, until
// ctx ends.
func Watchdog(ctx context.Context, healthy func(context.Context) error, log *slog.Logger) {
	err := systemd.Watchdog(ctx, healthy, func(err error) {
		log.Error("watchdog: health check failed", "error", err)
	})
	if err != nil {
		log.Warn("watchdog: notification failed", "error", err)
	}
}
