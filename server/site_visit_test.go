package server

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"adit/internal/testnet"
)

// readsAll answers when it has read the whole body.
func readsAll(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Write(b)
}

// proxying starts a gateway with a ProxySite, and returns the site's log.
func proxying(t *testing.T, cfg Config, h http.HandlerFunc, o ProxyOptions) (*gateway, *testnet.Log) {
	t.Helper()
	log := testnet.NewLog()
	o.Logger = log.Logger
	var err error
	if cfg.Site, err = ProxySite(webServer(t, h).URL, o); err != nil {
		t.Fatal(err)
	}
	routes := []Route{{Path: "/r", Backends: []string{"127.0.0.1:1"}}} // for HTTP/2
	return start(t, cfg, Access{Routes: routes}), log
}

// h2Post sends a POST over HTTP/2 with one invalid field, and returns the status of
// the answer.
func (g *gateway) h2Post(t *testing.T, body, name, value string) string {
	t.Helper()
	config := g.ca.ClientConfig()
	config.ServerName, config.NextProtos = "localhost", []string{"h2"}
	c, err := tls.Dial("tcp", g.addr, config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(watchdog))
	io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.WriteSettings()
	var block bytes.Buffer
	written := false
	e := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":authority", "gw.test"}, {":path", "/"}, {name, value}} {
		switch {
		case field[0] != name:
			e.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		case !written:
			e.WriteField(hpack.HeaderField{Name: name, Value: value})
			written = true
		}
	}
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	f.WriteData(1, true, []byte(body))
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			return frame.PseudoValue("status")
		case *http2.RSTStreamFrame:
			return frame.ErrCode.String()
		}
	}
}

// An invalid request is answered with 4xx, and does not count as an outage.
func TestProxySiteBadRequests(t *testing.T) {
	g, log := proxying(t, Config{}, readsAll, ProxyOptions{})
	if resp, _ := g.ask(t, request("POST / HTTP/1.1", "Transfer-Encoding: chunked")+"zz\r\n"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a chunk without a length: %s", resp.Status)
	}
	if status := g.h2Post(t, "short", "content-length", "9"); status != "400" {
		t.Errorf("a body that is shorter than it says, over HTTP/2: %s", status)
	}
	if status := g.h2Post(t, "good", "content-length", "4"); status != "200" {
		t.Errorf("a good body: %s", status)
	}
	// Go accepts this and does not send it.
	g.ask(t, request("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: \xff"))
	for _, field := range [][2]string{{":method", "GET X"}, {":authority", "xn--\xff"}, {"trailer", "\xff"}} {
		if status := g.h2Post(t, "", field[0], field[1]); status == "200" {
			t.Errorf("%q is answered", field)
		}
	}
	if lines := log.Lines("the site"); len(lines) > 0 {
		t.Errorf("the site is blamed: %q", lines)
	}
}

// Before the whole request has been sent, a failure may be the visitor's fault.
func TestVisitAsked(t *testing.T) {
	sent, broken := httptrace.WroteRequestInfo{}, httptrace.WroteRequestInfo{Err: io.ErrUnexpectedEOF}
	for name, c := range map[string]struct {
		asked bool
		so    func(*httptrace.ClientTrace)
	}{
		"never tried":   {false, func(*httptrace.ClientTrace) {}},
		"no connection": {true, func(c *httptrace.ClientTrace) { c.GetConn("") }},
		"half sent":     {false, func(c *httptrace.ClientTrace) { c.GetConn(""); c.GotConn(httptrace.GotConnInfo{}) }},
		"cannot be sent": {false, func(c *httptrace.ClientTrace) {
			c.GetConn("")
			c.GotConn(httptrace.GotConnInfo{})
			c.WroteRequest(broken)
		}},
		"sent": {true, func(c *httptrace.ClientTrace) {
			c.GetConn("")
			c.GotConn(httptrace.GotConnInfo{})
			c.WroteRequest(sent)
		}},
		"tried again": {true, func(c *httptrace.ClientTrace) {
			c.GetConn("")
			c.GotConn(httptrace.GotConnInfo{})
			c.WroteRequest(broken)
			c.GetConn("")
		}},
	} {
		r, over := beginVisit(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), time.Minute)
		c.so(httptrace.ContextClientTrace(r.Context()))
		if visitOf(r).asked() != c.asked {
			t.Errorf("%s: the site was asked: %v", name, !c.asked)
		}
		if new(proxySite).answered(&http.Response{Request: r}); visitOf(r).asked() {
			t.Errorf("%s: it has not answered when it has", name)
		}
		over()
	}
}

// The server's bound for a whole request does not apply to an upload to the site.
// An upload that stalls ends with an error for the visitor and no log line.
func TestProxySiteSlowUpload(t *testing.T) {
	over := Config{RequestTimeout: 500 * time.Millisecond}
	patient, log1 := proxying(t, over, readsAll, ProxyOptions{})
	impatient, log2 := proxying(t, Config{}, readsAll, ProxyOptions{BodyTimeout: 50 * time.Millisecond})
	h2 := func(g *gateway, body io.Reader) int {
		req, _ := http.NewRequestWithContext(t.Context(), "POST", "https://"+g.addr, body)
		resp, err := g.h2(t).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	h1 := func(g *gateway, body io.Reader) int {
		c := g.dialTLS(t)
		io.WriteString(c, request("POST / HTTP/1.1", "Content-Length: 6"))
		go io.Copy(c, body)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for name, post := range map[string]func(*gateway, io.Reader) int{"HTTP/1.1": h1, "HTTP/2": h2} {
		slow, end := io.Pipe()
		go func() {
			io.WriteString(end, "xxx")
			<-time.After(3 * over.RequestTimeout)
			io.WriteString(end, "xxx")
			end.Close()
		}()
		if status := post(patient, slow); status != http.StatusOK {
			t.Errorf("%s: %d for a slow upload", name, status)
		}
		stalled, never := io.Pipe()
		go io.WriteString(never, "xxx")
		if status := post(impatient, stalled); status != http.StatusRequestTimeout {
			t.Errorf("%s: %d for a stalled one", name, status)
		}
		never.Close()
	}
	if lines := append(log1.Lines("the site"), log2.Lines("the site")...); len(lines) > 0 {
		t.Errorf("the site is blamed: %q", lines)
	}
}

// deadlines records the read deadlines of a request's body.
type deadlines struct {
	http.ResponseWriter
	last time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error { d.last = t; return nil }

func TestVisitDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d deadlines
		r, over := beginVisit(&d, httptest.NewRequest("POST", "/", strings.NewReader("xxxxx")), time.Minute)
		read := func(want time.Duration) {
			t.Helper()
			r.Body.Read(make([]byte, 1))
			if left := time.Until(d.last); left != want {
				t.Errorf("%v for more", left)
			}
		}
		read(time.Minute)
		read(time.Minute)
		time.Sleep(59 * time.Second)
		read(time.Minute)
		time.Sleep(time.Second)
		read(59 * time.Second) // too soon for a new deadline
		time.Sleep(50 * time.Second)
		read(time.Minute)
		time.Sleep(50 * time.Second)
		over()
		read(10 * time.Second) // the deadline is the next request's
	})
}
