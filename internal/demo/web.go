package demo

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"adit/tunnel"
)

// startWebBackend starts an ordinary web server.
func (d *demo) startWebBackend() (addr string, err error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<!doctype html><title>adit demo</title><h1>It works</h1><p>This page came through the tunnel. The backend saw a connection from %s.</p>\n", r.RemoteAddr)
	})
	mux.HandleFunc("POST /digest", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		if _, err := io.Copy(h, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		io.WriteString(w, hex.EncodeToString(h.Sum(nil)))
	})
	mux.HandleFunc("GET /noise/{bytes}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.PathValue("bytes"), 10, 64)
		if err != nil || n < 0 {
			http.Error(w, "bad number of bytes", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		io.CopyN(w, noise(), n)
	})
	l, err := tunnel.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("start the web backend: %w", err)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	d.wg.Go(func() { srv.Serve(l) })
	d.wg.Go(func() { <-d.ctx.Done(); srv.Close() })
	return l.Addr().String(), nil
}

// noise returns the same random bytes each time.
func noise() io.Reader { return rand.NewChaCha8([32]byte{'a', 'd', 'i', 't'}) }
