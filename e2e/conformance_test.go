//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// This suite checks a route for what RFC 6455 requires of a server. Behind the route is a byte
// stream: payload returns in order, in messages of any size.

// A wsCase is one row: what the client sends and what it must receive.
type wsCase struct {
	name  string
	steps []wsStep
	// code is the status code of the Close frame with which the server ends the connection. 0 means
	// that the client closes after the last step.
	code int
	may  string // this payload of the last step, or a prefix of it, may precede the Close
}

// A wsStep is sent when all that the step before it expects has arrived.
type wsStep struct {
	send  string
	chop  int      // bytes per Write; 0: all at once
	data  string   // expected payload
	pongs []string // expected pongs, in order
}

// Special values of code.
const (
	unended    = -1 // the client resets
	unsendable = -2 // the backend sends bytes that are not UTF-8: the server closes with 1011, the client answers
)

// passes returns a case of one step after which the connection is open.
func passes(name, send, data string, pongs ...string) wsCase {
	return wsCase{name: name, steps: []wsStep{{send: send, data: data, pongs: pongs}}}
}

// ends returns a case of one step after which the server closes with code. How much of may, the
// data before the fault, still arrives depends on the speed of the backend.
func ends(name, send string, code int, may string) wsCase {
	return wsCase{name: name, steps: []wsStep{{send: send}}, code: code, may: may}
}

// chopped returns the same case, written in pieces of n bytes.
func (c wsCase) chopped(n int) wsCase {
	c.name = fmt.Sprintf("%s, in pieces of %d", c.name, n)
	c.steps = slices.Clone(c.steps)
	for i := range c.steps {
		c.steps[i].chop = n
	}
	return c
}

// run runs the case.
func (c wsCase) run(p *peer) error {
	defer p.Close()
	var data string
	var pongs []string
	for i, s := range c.steps {
		last := i == len(c.steps)-1
		data += s.data
		pongs = append(pongs, s.pongs...)
		err := whileWriting(p, s.send, s.chop, func() error {
			switch {
			case last && c.code == unsendable:
				return p.untilAnswered()
			case last && c.code > 0:
				return p.untilClose()
			}
			return p.until(func() bool { return len(p.data) >= len(data) && len(p.pongs) >= len(pongs) })
		})
		if err != nil {
			return fmt.Errorf("step %d: %w; so far %d bytes, %d pongs", i+1, err, len(p.data), len(p.pongs))
		}
	}
	switch {
	case c.code == 0:
		if err := p.bye(); err != nil {
			return err
		}
	case c.code == unended:
		p.Reset()
	case c.code == unsendable:
		if p.code != 1011 {
			return fmt.Errorf("closed with %d %q, want 1011", p.code, p.reason)
		}
	case p.code != c.code:
		return fmt.Errorf("closed with %d %q, want %d", p.code, p.reason, c.code)
	}
	got, isBeginning := strings.CutPrefix(string(p.data), data)
	if !isBeginning || !strings.HasPrefix(c.may, got) {
		return fmt.Errorf("the data %.100q came back, want %.100q", p.data, data+c.may)
	}
	if !slices.Equal(p.pongs, pongs) {
		return fmt.Errorf("the pongs %.200q came, want %.200q", p.pongs, pongs)
	}
	return nil
}

// whileWriting calls read while it writes b. read judges an end of the connection.
func whileWriting(p *peer, b string, chop int, read func() error) error {
	wrote := make(chan struct{})
	go func() {
		p.write(b, chop)
		close(wrote)
	}()
	err := read()
	if err != nil {
		p.Close() // unblocks the writer
	}
	<-wrote
	return err
}

// routeServers are two adit servers with the same routes, one with TLS and one without.
type routeServers struct {
	plain, secure *server
	roots         *x509.CertPool
	atRest        map[*server]int // descriptors before the first connection
}

// startRoutes starts both with the given [[route]] tables.
func startRoutes(t *testing.T, tables string) *routeServers {
	t.Helper()
	h := machine(t)
	pair := newKeyPair(t, "localhost", "127.0.0.1")
	pem, err := os.ReadFile(pair.ca)
	if err != nil {
		t.Fatal(err)
	}
	r := &routeServers{roots: x509.NewCertPool(), atRest: make(map[*server]int)}
	r.roots.AppendCertsFromPEM(pem)
	start := func(tls string) *server {
		conf := fmt.Sprintf("listen = [\"127.0.0.1:0\"]\ndrain-timeout = \"1s\"\n[tls]\n%s\n%s", tls, tables)
		return h.server(t, "--config", writeFile(t, workDir(t), "server.toml", conf))
	}
	r.plain = start("off = true")
	r.secure = start(fmt.Sprintf("cert = %q\nkey = %q", pair.cert, pair.key))
	for _, s := range []*server{r.plain, r.secure} {
		r.atRest[s] = s.usage(t).descriptors
	}
	return r
}

// settle waits until the servers have closed all other descriptors.
func (r *routeServers) settle(t *testing.T) {
	t.Helper()
	for s, rest := range r.atRest {
		eventually(t, patience, "the server has closed its descriptors", func() error {
			if n := s.usage(t).descriptors; n > rest {
				return fmt.Errorf("%d descriptors, at first %d", n, rest)
			}
			return nil
		})
	}
}

// route returns a [[route]] table. backends are separated by commas.
func route(path, backends string, more ...string) string {
	return fmt.Sprintf("[[route]]\npath = %q\nbackend = [\"%s\"]\n%s\n", path, strings.ReplaceAll(backends, ",", `", "`), strings.Join(more, "\n"))
}

// A transport is a protocol under the WebSocket frames.
type transport string

const (
	overTCP   transport = "ws"
	overTLS   transport = "wss"
	overHTTP2 transport = "h2"
)

var transports = []transport{overTCP, overTLS, overHTTP2}

// watchdog bounds one connection of the suite; a case that passes takes a small fraction of it.
const watchdog = 30 * time.Second

// connTo opens a connection for a transport so that a request can be sent. It returns a tcpWire for
// TCP and TLS, and an h2Conn for HTTP/2.
func (r *routeServers) connTo(by transport) (*tcpWire, *h2Conn, error) {
	addr := r.secure.addr
	if by == overTCP {
		addr = r.plain.addr
	}
	conn, err := net.DialTimeout("tcp", addr, watchdog)
	if err != nil {
		return nil, nil, err
	}
	conn.SetDeadline(time.Now().Add(watchdog))
	raw := conn.(*net.TCPConn)
	if by == overTCP {
		return &tcpWire{conn, bufio.NewReader(conn), raw}, nil, nil
	}
	alpn := "http/1.1"
	if by == overHTTP2 {
		alpn = "h2"
	}
	secure := tls.Client(conn, &tls.Config{RootCAs: r.roots, ServerName: "localhost", NextProtos: []string{alpn}})
	err = secure.Handshake()
	if got := secure.ConnectionState().NegotiatedProtocol; err == nil && got != alpn {
		err = fmt.Errorf("asked for ALPN %s, got %q", alpn, got)
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	if by == overTLS {
		return &tcpWire{secure, bufio.NewReader(secure), raw}, nil, nil
	}
	c, err := newH2Conn(secure)
	if err == nil && !c.extended {
		err = errors.New("the server does not announce SETTINGS_ENABLE_CONNECT_PROTOCOL")
	}
	if err != nil {
		if c != nil {
			c.Close()
		}
		return nil, nil, err
	}
	return nil, c, nil
}

// refusedError reports that the answer to the handshake was not a WebSocket.
type refusedError struct{ status int }

func (e *refusedError) Error() string {
	return fmt.Sprintf("the handshake is answered with %d", e.status)
}

// The example of RFC 6455 section 1.3.
const (
	exampleKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	exampleAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// dial opens a WebSocket. The frames in early follow the request without waiting for the answer.
func (r *routeServers) dial(by transport, path string, text bool, early string) (*peer, error) {
	conn, h2, err := r.connTo(by)
	if err != nil {
		return nil, err
	}
	if by == overHTTP2 {
		s, err := h2.open(connect("localhost", path), early)
		var status int
		if err == nil {
			status, err = s.answer()
		}
		if err == nil && status != 200 {
			err = &refusedError{status}
		}
		if err != nil {
			h2.Close()
			return nil, err
		}
		return newPeer(s, text), nil
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + exampleKey + "\r\n\r\n"
	if _, err = io.WriteString(conn, request+early); err == nil {
		err = readSwitch(conn.in)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return newPeer(conn, text), nil
}

// readSwitch reads the 101 answer to a request with exampleKey.
func readSwitch(in *bufio.Reader) error {
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		return fmt.Errorf("the answer to the handshake: %w", err)
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		answer.Body.Close()
		return &refusedError{answer.StatusCode}
	}
	if got := answer.Header.Get("Sec-WebSocket-Accept"); got != exampleAccept {
		return fmt.Errorf("Sec-WebSocket-Accept is %q", got)
	}
	return nil
}

// TestConformance runs every case against a route in front of an echo backend.
func TestConformance(t *testing.T) {
	backend := machine(t).listen(t, "127.0.0.1:0")
	serve(t, backend, func(conn net.Conn) { io.Copy(conn, conn) })
	r := startRoutes(t, route("/binary", backend.Addr().String(), `frame-type = "binary"`)+
		route("/text", backend.Addr().String(), `frame-type = "text"`))
	for _, by := range transports {
		for _, mode := range []string{"binary", "text"} {
			t.Run(string(by)+"/"+mode, func(t *testing.T) {
				t.Parallel()
				text := mode == "text"
				passed, all := 0, 0
				play := func(name string, run func(*peer) error) {
					all++
					if all-passed > 20 {
						t.Fatal("too many failures: the remaining cases are skipped")
					}
					ok := t.Run(name, func(t *testing.T) {
						p, err := r.dial(by, "/"+mode, text, "")
						if err == nil {
							err = run(p)
						}
						if err != nil {
							t.Error(err)
						}
					})
					if ok {
						passed++
					}
				}
				for _, c := range conformanceCases(text) {
					play(c.name, c.run)
				}
				for _, c := range sizeCases(text) {
					if !testing.Short() || c.size <= 1<<20 {
						play(c.name(), c.run)
					}
				}
				t.Logf("%d of %d cases pass", passed, all)
			})
		}
	}
	t.Cleanup(func() { r.settle(t) })
}

// conformanceCases returns all cases except those of size.
func conformanceCases(text bool) []wsCase {
	payload := binaryPayload
	if text {
		payload = textPayload
	}
	return slices.Concat(framingCases(payload), pingCases(payload), reservedCases(), fragmentCases(payload),
		maskCases(), lengthCases(payload), utf8Cases(), closeCases(), outputCases(text))
}

// binaryPayload contains every byte value.
func binaryPayload(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return string(b)
}

// textPayload contains code points of every encoded length, and ends with a complete one.
func textPayload(n int) string {
	const all = "aé€😀"
	return strings.Repeat(all, n/len(all)) + strings.Repeat("x", n%len(all))
}

// A sizeCase is one message that is large, fragmented, or both.
type sizeCase struct {
	op       byte
	size     int
	fragment int // bytes per frame; 0: one frame
	chop     int // bytes per Write; 0: all at once
	payload  func(int) string
}

func (c sizeCase) name() string {
	name := fmt.Sprintf("%d bytes of opcode %d", c.size, c.op)
	if c.fragment > 0 {
		name += fmt.Sprintf(", in fragments of %d", c.fragment)
	}
	if c.chop > 0 {
		name += fmt.Sprintf(", in pieces of %d", c.chop)
	}
	return name
}

// sizeCases returns messages of up to 16 MiB.
func sizeCases(text bool) []sizeCase {
	payload := binaryPayload
	ops := []byte{opText, opBinary}
	if text {
		payload = textPayload
	}
	var all []sizeCase
	for _, op := range ops {
		add := func(size, fragment, chop int) {
			payload := payload
			if op == opText {
				payload = textPayload
			}
			all = append(all, sizeCase{op, size, fragment, chop, payload})
		}
		for _, size := range []int{64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20, 16 << 20} {
			add(size, 0, 0)
		}
		for fragment := 64; fragment <= 4<<20; fragment *= 4 {
			add(4<<20, fragment, 0)
		}
		add(16<<20, 64, 0)
		for chop := 64; chop <= 2048; chop *= 2 {
			add(1<<20, 0, chop)
		}
		add(4096, 0, 1)
		add(4096, 64, 1)
		add(2048, 1, 1)
		add(65536, 1300, 0)
		add(256<<10, 1, 0)
	}
	return all
}

func (c sizeCase) run(p *peer) error {
	defer p.Close()
	payload := []byte(c.payload(c.size))
	got := 0
	p.onData = func(b []byte) error {
		if !bytes.HasPrefix(payload[got:], b) {
			return fmt.Errorf("the returned data differs after byte %d", got)
		}
		got += len(b)
		return nil
	}
	wrote := make(chan error, 1)
	go func() { wrote <- c.write(p, payload) }()
	err := p.until(func() bool { return got == len(payload) })
	if err != nil {
		p.Close()
		return errors.Join(fmt.Errorf("after %d bytes: %w", got, err), <-wrote)
	}
	if err := <-wrote; err != nil {
		return err
	}
	return p.bye()
}

// write sends the message. It makes frames as needed, because the message may have 16 MiB.
func (c sizeCase) write(w io.Writer, payload []byte) error {
	if c.chop > 0 {
		w = chopper{w, c.chop}
	}
	out := bufio.NewWriterSize(w, 64<<10)
	fragment := c.fragment
	if fragment == 0 {
		fragment = len(payload)
	}
	var frame []byte
	b0 := c.op
	for len(payload) > 0 {
		n := min(fragment, len(payload))
		if n == len(payload) {
			b0 |= fin
		}
		frame = appendFrame(frame[:0], b0, payload[:n])
		if _, err := out.Write(frame); err != nil {
			return err
		}
		payload, b0 = payload[n:], opCont
	}
	return out.Flush()
}

// chopper writes in pieces of n bytes.
type chopper struct {
	w io.Writer
	n int
}

func (c chopper) Write(p []byte) (int, error) {
	written := 0
	for piece := range slices.Chunk(p, c.n) {
		n, err := c.w.Write(piece)
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}
