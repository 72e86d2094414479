package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"adit/certs"
	"adit/internal/units"
	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

// The paths of the gateway that are for browsers.
const (
	demoRoute = "/json"
	demoPage  = "/console"
)

// maxLine bounds a line of JSON.
const maxLine = 64 << 10

// startJSONBackend starts a TCP backend that answers each line of JSON with
// another.
func (d *demo) startJSONBackend() (addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("start the JSON backend: %w", err)
	}
	d.wg.Go(func() { <-d.ctx.Done(); l.Close() })
	d.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.wg.Go(func() { d.answerLines(c) })
		}
	})
	return l.Addr().String(), nil
}

func (d *demo) answerLines(c net.Conn) {
	done := make(chan struct{})
	defer close(done)
	d.wg.Go(func() {
		select {
		case <-d.ctx.Done():
		case <-done:
		}
		c.Close()
	})
	lines := bufio.NewScanner(c)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	for n := 1; lines.Scan(); n++ {
		if _, err := c.Write(answerLine(n, lines.Bytes())); err != nil {
			return
		}
	}
	if lines.Err() == bufio.ErrTooLong {
		io.WriteString(c, `{"error":"the line is too long"}`+"\n")
	}
}

// answerLine returns the answer to line number n, which comes without its end.
func answerLine(n int, line []byte) []byte {
	answer := map[string]any{"line": n, "at": time.Now().UTC().Format(time.RFC3339Nano)}
	if json.Valid(line) {
		answer["got"] = json.RawMessage(line)
	} else {
		answer["error"] = "this is not JSON"
	}
	b, err := json.Marshal(answer)
	if err != nil { // cannot happen: the raw part is valid JSON
		b = []byte("null")
	}
	return append(b, '\n')
}

// proveRoute sends a line of JSON as a browser would, and checks the answer.
func (d *demo) proveRoute() error {
	start := time.Now()
	answer, err := d.askRoute(`{"hello":"adit"}`)
	if err == nil && !strings.Contains(answer, `"got":{"hello":"adit"}`) {
		err = fmt.Errorf("the backend answers %q", answer)
	}
	if err != nil {
		fmt.Fprintf(d.Out, "✗ %-5s %v\n", "route", err)
		return fmt.Errorf("route: %w", err)
	}
	fmt.Fprintf(d.Out, "✓ %-5s a line of JSON there and back over a plain WebSocket in %s\n", "route", units.Short(time.Since(start)))
	return nil
}

func (d *demo) askRoute(line string) (answer string, err error) {
	conf, err := certs.ClientConfig(certs.ClientOptions{Pins: []certs.Pin{d.pin}})
	if err != nil {
		return "", err
	}
	c, err := dial.Dial(d.ctx, "wss://"+d.serverAddr+demoRoute, &dial.Options{TLS: conf})
	if err != nil {
		return "", err
	}
	defer c.CloseNow()
	defer context.AfterFunc(d.ctx, func() { c.CloseNow() })()
	if err := c.WriteMessage(ws.OpText, []byte(line+"\n")); err != nil {
		return "", err
	}
	var b bytes.Buffer
	for !bytes.HasSuffix(b.Bytes(), []byte("\n")) {
		if _, err := c.NextMessage(); err != nil {
			return "", err
		}
		if _, err := b.ReadFrom(io.LimitReader(c, maxLine)); err != nil {
			return "", err
		}
	}
	return b.String(), c.Close(ws.StatusNormal, "")
}
