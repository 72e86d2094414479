package server

import (
	"bytes"
	"context"
	"log/slog"
	"strings"

	"adit/internal/metrics"
)

// httpLog is an io.Writer for http.Server.ErrorLog: messages about clients
// become debug lines, and messages about the server itself errors.
type httpLog struct{ log *slog.Logger }

func (w httpLog) Write(p []byte) (int, error) {
	message := strings.TrimSuffix(string(p), "\n")
	level := slog.LevelDebug
	for _, fault := range []string{"http: panic serving", "http2: panic serving", "http: Accept error"} {
		if strings.HasPrefix(message, fault) {
			level = slog.LevelError
		}
	}
	w.log.Log(context.Background(), level, "http", "message", message)
	return len(p), nil
}

// handshakeLog is an httpLog that counts failed TLS handshakes, of which
// net/http tells in no other way.
type handshakeLog struct {
	httpLog
	failures *metrics.Tally
}

func (w handshakeLog) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("http: TLS handshake error")) {
		w.failures.Add("tls")
	}
	return w.httpLog.Write(p)
}
