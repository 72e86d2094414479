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
		log.Error("the watchdog is not fed", "error", err)
	})
	if err != nil {
		log.Warn("the watchdog is not fed", "error", err)
	}
}
