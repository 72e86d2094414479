package config

import "log/slog"

// Log is how a server or client logs.
type Log struct {
	Level  slog.Level
	Format string // "auto", "text", "json" or "journal"
}

// Admin is where a running server or client can be watched.
type Admin struct {
	// Listen is a unix socket or a loopback address. Its Network is "none" for
	// nowhere; the zero Address leaves the choice to the caller.
	Listen Address
	Pprof  bool // Go's profiles, too
}

// Metrics is where scrapers read metrics, health and readiness only.
type Metrics struct {
	Listen Address // zero: nowhere
}

// settings are those of [metrics] in both files.
func (m *Metrics) settings(restart bool) []*setting {
	return []*setting{
		{key: "metrics.listen", flag: "metrics-listen", arg: "ADDRESS", to: text(&m.Listen, ParseMetrics), restart: restart, unset: "none",
			help: "serve /metrics, /healthz and /readyz only here, for scrapers of other machines: HOST:PORT or unix:PATH",
			doc: `Address with /metrics, /healthz and /readyz and nothing else, for Prometheus and probes of other machines:
				"HOST:PORT", ":PORT" for every interface, or "unix:/PATH" (socket mode 0660). Everyone who can connect can
				read it, without encryption: metrics name users, routes and forwards, but no address of a client.`,
			example: `"192.0.2.10:9464"`},
	}
}

// settings are the log's in both files. The two ends differ in the default
// level, and in what a reload changes.
func (l *Log) settings(unsetLevel string, restart bool) []*setting {
	return []*setting{
		{key: "log-level", flag: "log-level", arg: "LEVEL", to: level(&l.Level), def: "info", unset: unsetLevel,
			help:    "least severe messages to log",
			example: `"info"`},
		{key: "log-format", flag: "log-format", arg: "FORMAT", to: choice(&l.Format, "log format", "auto", "text", "json", "journal"), def: "auto", restart: restart,
			help: "format of the log",
			doc: `Format of the log: "text" (key=value) or "json" to standard error, or "journal" to systemd's journal with a
				field for each value (ADIT_ADDR=, ADIT_USER=, …); without a journal that is text. "auto" is "journal" if
				systemd connects standard error to the journal, short lines on a terminal, and otherwise "text".`,
			example: `"json"`},
	}
}

// settings are those of [admin] in both files.
func (a *Admin) settings(restart bool) []*setting {
	return []*setting{
		{key: "admin.listen", flag: "admin-listen", arg: "ADDRESS", to: text(&a.Listen, ParseAdmin), restart: restart,
			unset: "admin.sock in systemd's RUNTIME_DIRECTORY, otherwise none",
			help:  "serve adit status, Prometheus metrics and the status page here: unix:PATH, a loopback HOST:PORT, or none",
			doc: `Address that adit status, Prometheus and the status page connect to: "unix:/PATH" (socket mode 0600), a
				loopback address, which every user of this machine can read, or "none". docs/metrics.md lists what is
				served.`,
			example: `"unix:/run/adit/admin.sock"`},
		{key: "admin.pprof", flag: "admin-pprof", to: boolean(&a.Pprof), restart: restart,
			help:    "serve Go's profiles at the admin address too, below /debug/pprof/",
			example: "true"},
	}
}

func level(to *slog.Level) value {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	names := []string{"debug", "info", "warn", "error"}
	return scalar[slog.Level]{to: to, holds: kindText, of: names, parse: func(s string) (slog.Level, error) {
		name, err := oneOf("log level", names...)(s)
		return levels[name], err
	}}
}
