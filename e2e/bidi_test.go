//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"adit/tunnel/dial"
	"adit/tunnel/ws"
)

// A browser is driven through WebDriver BiDi, which Firefox and chromedriver speak: JSON messages
// over a WebSocket. It has one page. One goroutine uses it.
type browser struct {
	t       *testing.T
	process *process
	conn    *ws.Conn
	in      *json.Decoder
	lastID  int
	context string   // of the page
	console []string // warnings and errors logged by pages
}

// bidiMessage is a message of the browser: the answer to a command, or an event.
type bidiMessage struct {
	Type    string          `json:"type"` // success, error or event
	ID      int             `json:"id"`
	Result  json.RawMessage `json:"result"`
	Error   string          `json:"error"`
	Message string          `json:"message"`
	Method  string          `json:"method"`
	Params  struct {
		Level string `json:"level"`
		Text  string `json:"text"`
	} `json:"params"`
}

// drive connects to the BiDi endpoint of a browser in the host. p is the browser's process.
func (h *host) drive(t *testing.T, p *process, url string) *browser {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var (
		conn *ws.Conn
		err  error
	)
	h.do(func() { conn, err = dial.Dial(ctx, url, nil) })
	if err != nil {
		t.Fatalf("connect to the browser: %v", err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	return &browser{t: t, process: p, conn: conn, in: json.NewDecoder(&messages{conn})}
}

// messages reads the messages of a connection in turn.
type messages struct{ conn *ws.Conn }

func (m *messages) Read(p []byte) (int, error) {
	for {
		n, err := m.conn.Read(p)
		if err == nil || err != io.EOF || n > 0 {
			return n, err
		}
		if _, err := m.conn.NextMessage(); err != nil {
			return 0, err
		}
	}
}

// ready finds the page and subscribes to what pages log.
func (b *browser) ready() {
	b.t.Helper()
	var tree struct {
		Contexts []struct {
			Context string `json:"context"`
		} `json:"contexts"`
	}
	b.do("browsingContext.getTree", map[string]any{}, &tree)
	if len(tree.Contexts) == 0 {
		b.t.Fatal("the browser has no page")
	}
	b.context = tree.Contexts[0].Context
	b.do("session.subscribe", map[string]any{"events": []string{"log.entryAdded"}}, nil)
}

// do runs a command and waits for its result.
func (b *browser) do(method string, params map[string]any, result any) {
	b.t.Helper()
	b.lastID++
	request, err := json.Marshal(map[string]any{"id": b.lastID, "method": method, "params": params})
	if err != nil {
		b.t.Fatal(err)
	}
	b.conn.NetConn().SetDeadline(time.Now().Add(patience))
	if err := b.conn.WriteMessage(ws.OpText, request); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	for {
		var m bidiMessage
		if err := b.in.Decode(&m); err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		switch {
		case m.Method == "log.entryAdded" && (m.Params.Level == "error" || m.Params.Level == "warn"):
			b.console = append(b.console, m.Params.Text)
		case m.Type == "error" && m.ID == b.lastID:
			b.t.Fatalf("%s: %s: %s", method, m.Error, m.Message)
		case m.Type == "success" && m.ID == b.lastID:
			if result == nil {
				return
			}
			if err := json.Unmarshal(m.Result, result); err != nil {
				b.t.Fatalf("%s: %v in %s", method, err, m.Result)
			}
			return
		}
	}
}

// open loads a page.
func (b *browser) open(url string) {
	b.t.Helper()
	b.do("browsingContext.navigate", map[string]any{"context": b.context, "url": url, "wait": "complete"}, nil)
}

// eval evaluates JavaScript in the page. The value, or what the promise resolves to, has to be a
// string.
func (b *browser) eval(script string) string {
	b.t.Helper()
	var result struct {
		Type   string `json:"type"`
		Result struct {
			Type  string `json:"type"`
			Value any    `json:"value"`
		} `json:"result"`
		Exception struct {
			Text string `json:"text"`
		} `json:"exceptionDetails"`
	}
	b.do("script.evaluate", map[string]any{
		"expression": script, "target": map[string]any{"context": b.context}, "awaitPromise": true, "resultOwnership": "none",
	}, &result)
	text, ok := result.Result.Value.(string)
	if !ok {
		b.t.Fatalf("%s is %s, not a string; %s", script, result.Result.Type, result.Exception.Text)
	}
	return text
}

// text returns the visible text of the first element that matches selector, "" if there is none.
func (b *browser) text(selector string) string {
	b.t.Helper()
	return b.eval(fmt.Sprintf(`document.querySelector(%q)?.innerText.trim() ?? ""`, selector))
}

// focused returns the id of the focused element.
func (b *browser) focused() string {
	b.t.Helper()
	return b.eval(`document.activeElement?.id ?? ""`)
}

// waitFor waits until the element that matches selector shows want.
func (b *browser) waitFor(selector, want string) {
	b.t.Helper()
	eventually(b.t, patience, "the page shows "+want, func() error {
		if got := b.text(selector); got != want {
			return fmt.Errorf("%s shows %q", selector, got)
		}
		return nil
	})
}

// Keys without a character, as WebDriver encodes them.
const (
	keyEnter     = "\ue007"
	keyUp        = "\ue013"
	keyBackspace = "\ue003"
)

// typeKeys presses and releases keys, one for each rune.
func (b *browser) typeKeys(keys string) {
	b.t.Helper()
	var actions []map[string]any
	for _, key := range keys {
		actions = append(actions, map[string]any{"type": "keyDown", "value": string(key)}, map[string]any{"type": "keyUp", "value": string(key)})
	}
	b.do("input.performActions", map[string]any{
		"context": b.context, "actions": []any{map[string]any{"type": "key", "id": "keyboard", "actions": actions}},
	}, nil)
}

// click clicks the center of the matching element. (A headless Firefox window is never focused:
// keys type text but press no button.)
func (b *browser) click(selector string) {
	b.t.Helper()
	var x, y int
	middle := b.eval(fmt.Sprintf(`(() => {
		const r = document.querySelector(%q).getBoundingClientRect();
		return Math.round(r.x + r.width / 2) + " " + Math.round(r.y + r.height / 2);
	})()`, selector))
	if _, err := fmt.Sscan(middle, &x, &y); err != nil {
		b.t.Fatalf("where %s is: %q", selector, middle)
	}
	b.do("input.performActions", map[string]any{
		"context": b.context, "actions": []any{map[string]any{"type": "pointer", "id": "mouse", "actions": []map[string]any{
			{"type": "pointerMove", "x": x, "y": y}, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0},
		}}},
	}, nil)
}

// resize sets the size of the viewport in CSS pixels.
func (b *browser) resize(width, height int) {
	b.t.Helper()
	b.do("browsingContext.setViewport", map[string]any{
		"context": b.context, "viewport": map[string]int{"width": width, "height": height}, "devicePixelRatio": 1,
	}, nil)
}

// screenshot saves a picture of the page with the test's artifacts. The test fails if it has hardly
// any colors.
func (b *browser) screenshot(name string) {
	b.t.Helper()
	var shot struct {
		Data string `json:"data"`
	}
	b.do("browsingContext.captureScreenshot", map[string]any{"context": b.context}, &shot)
	data, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		b.t.Fatalf("screenshot: %v", err)
	}
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		b.t.Fatalf("screenshot: %v", err)
	}
	file := filepath.Join(b.t.ArtifactDir(), name+".png")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		b.t.Fatal(err)
	}
	b.t.Logf("screenshot: %s", file)
	colors := map[[3]uint32]bool{}
	size := picture.Bounds()
	for y := size.Min.Y; y < size.Max.Y; y += 3 {
		for x := size.Min.X; x < size.Max.X; x += 3 {
			r, g, b, _ := picture.At(x, y).RGBA()
			colors[[3]uint32{r, g, b}] = true
		}
	}
	if len(colors) < 10 {
		b.t.Errorf("the screenshot %s is blank: %d colors", name, len(colors))
	}
}

// noComplaints fails the test if a page has logged an error, such as a policy violation, that
// contains none of the expected texts.
func (b *browser) noComplaints(expected ...string) {
	b.t.Helper()
	for _, line := range b.console {
		known := false
		for _, part := range expected {
			known = known || strings.Contains(line, part)
		}
		if !known {
			b.t.Errorf("the page logged: %s", line)
		}
	}
}
