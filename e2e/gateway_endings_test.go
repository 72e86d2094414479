//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"adit/internal/testnet"
)

// endingGreeting is how many bytes some backends send before they end.
const endingGreeting = 1 << 20

// A recorder is a backend that reads all that a client sends and records how it ends. The first
// line is the name of the connection. If it begins with "half", the backend half-closes first.
type recorder struct {
	mu    sync.Mutex
	calls map[string]chan record
}

type record struct {
	data []byte
	err  error // nil for an orderly end
}

// of returns the channel that gets the record of the named connection.
func (r *recorder) of(name string) chan record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls == nil {
		r.calls = make(map[string]chan record)
	}
	if r.calls[name] == nil {
		r.calls[name] = make(chan record, 1)
	}
	return r.calls[name]
}

func (r *recorder) handle(conn net.Conn) {
	in := bufio.NewReader(conn)
	line, err := in.ReadString('\n')
	if err != nil {
		return
	}
	if strings.HasPrefix(line, "half") {
		io.WriteString(conn, "over")
		conn.(*net.TCPConn).CloseWrite()
	}
	var data bytes.Buffer
	_, err = data.ReadFrom(in)
	r.of(strings.TrimSpace(line)) <- record{data.Bytes(), err}
}

// endings is the fixture of the tests of route endings.
type endings struct {
	*routeServers
	recorder recorder
}

func startEndings(t *testing.T) *endings {
	e := &endings{}
	h := machine(t)
	backend := func(handle func(*net.TCPConn)) string {
		l := h.listen(t, "127.0.0.1:0")
		serve(t, l, func(conn net.Conn) { handle(conn.(*net.TCPConn)) })
		return l.Addr().String()
	}
	reset := func(conn *net.TCPConn) {
		conn.SetLinger(0)
		conn.Close()
	}
	closed := h.listen(t, "127.0.0.1:0")
	closed.Close()
	refuses := closed.Addr().String()
	echo := backend(func(conn *net.TCPConn) { io.Copy(conn, conn) })
	unixEcho, err := net.Listen("unix", workDir(t)+"/echo.sock")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, unixEcho, func(conn net.Conn) { io.Copy(conn, conn) })
	short := `connect-timeout = "300ms"`
	tables := route("/ends", backend(func(conn *net.TCPConn) {})) +
		route("/talks", backend(func(conn *net.TCPConn) { copyBig(conn, newNoise(1, endingGreeting)) })) +
		route("/resets", backend(func(conn *net.TCPConn) {
			conn.Read(make([]byte, 1))
			reset(conn)
		})) +
		route("/talks-resets", backend(func(conn *net.TCPConn) {
			copyBig(conn, newNoise(1, endingGreeting))
			conn.Read(make([]byte, 1))
			reset(conn)
		})) +
		route("/records", backend(func(conn *net.TCPConn) { e.recorder.handle(conn) })) +
		route("/refuses", refuses) +
		route("/hangs", testnet.Blackhole(t), short) +
		route("/unix", "unix:"+unixEcho.Addr().String()) +
		route("/echo", echo) +
		route("/second", refuses+","+echo) +
		route("/idle", echo, `idle-timeout = "1s"`) +
		route("/pings", echo, `ping-interval = "1s"`, `pong-timeout = "1s"`)
	e.routeServers = startRoutes(t, tables)
	return e
}

// An ending is one row of TestRouteEndings.
type ending struct {
	name string
	path string
	run  func(e *endings, p *peer, name string) error
}

// closesWith waits for the server's Close frame and answers it.
func closesWith(code int, data []byte) func(*endings, *peer, string) error {
	return func(e *endings, p *peer, name string) error {
		if err := p.untilAnswered(); err != nil {
			return err
		}
		return closedWith(p, code, data)
	}
}

func closedWith(p *peer, code int, data []byte) error {
	if p.code != code {
		return fmt.Errorf("closed with %d %q, want %d", p.code, p.reason, code)
	}
	if !bytes.Equal(p.data, data) {
		return fmt.Errorf("%d bytes came, want %d", len(p.data), len(data))
	}
	return nil
}

func greeting() []byte {
	b, err := io.ReadAll(newNoise(1, endingGreeting))
	if err != nil {
		// A fixed pattern cannot fail.
		panic(err)
	}
	return b
}

// clientEnds makes the client send data after the name of the connection, in the same Write as what
// ends the connection, and says how the backend must see the end.
func clientEnds(data, end string, orderly bool, after func(*peer) error) func(*endings, *peer, string) error {
	return func(e *endings, p *peer, name string) error {
		if err := p.write(f(fin|opBinary, name+"\n")+f(fin|opBinary, data)+end, 0); err != nil {
			return err
		}
		if err := after(p); err != nil {
			return err
		}
		return e.recorded(name, data, orderly)
	}
}

// recorded checks the record of a connection.
func (e *endings) recorded(name, data string, orderly bool) error {
	select {
	case got := <-e.recorder.of(name):
		switch {
		case orderly && got.err != nil:
			return fmt.Errorf("the backend sees %v, want an orderly end", got.err)
		case !orderly && !errors.Is(got.err, syscall.ECONNRESET):
			return fmt.Errorf("the backend sees %v, want a reset", got.err)
		case orderly && string(got.data) != data:
			return fmt.Errorf("the backend gets %d bytes, want %d", len(got.data), len(data))
		case !strings.HasPrefix(data, string(got.data)):
			// A reset may discard data in the backend's kernel, but not change it.
			return fmt.Errorf("the backend gets %d bytes that differ", len(got.data))
		}
		return nil
	case <-time.After(watchdog):
		return errors.New("the backend sees no end")
	}
}

func answered(p *peer) error { return p.untilClose() }

func resets(p *peer) error { p.Reset(); return nil }

func halfCloses(p *peer) error { return p.CloseWrite() }

func endingRows() []ending {
	big := binaryPayload(1 << 20)
	rows := []ending{
		{"the backend ends at once", "/ends", closesWith(1000, nil)},
		{"the backend ends behind 1 MiB", "/talks", closesWith(1000, greeting())},
		{"the backend resets", "/resets", func(e *endings, p *peer, name string) error {
			if err := p.write(f(fin|opBinary, "x"), 0); err != nil {
				return err
			}
			return closesWith(1011, nil)(e, p, name)
		}},
		{"the backend resets behind 1 MiB", "/talks-resets", func(e *endings, p *peer, name string) error {
			if err := p.until(func() bool { return len(p.data) == endingGreeting }); err != nil {
				return err
			}
			if err := p.write(f(fin|opBinary, "x"), 0); err != nil {
				return err
			}
			return closesWith(1011, greeting())(e, p, name)
		}},
		{"the backend ends, and the client does not answer", "/talks", func(e *endings, p *peer, name string) error {
			if err := p.untilClose(); err != nil {
				return err
			}
			return closedWith(p, 1000, greeting())
		}},
		{"the backend ends, and the client continues for a while", "/records", func(e *endings, p *peer, name string) error {
			name = "half " + name
			if err := p.write(f(fin|opBinary, name+"\n"), 0); err != nil {
				return err
			}
			if err := p.untilCloseFrame(); err != nil {
				return err
			}
			if err := p.write(f(fin|opBinary, big)+closing(1000, ""), 0); err != nil {
				return err
			}
			if err := p.untilEnd(); err != nil {
				return err
			}
			return errors.Join(closedWith(p, 1000, []byte("over")), e.recorded(name, big, true))
		}},
		{"a unix socket", "/unix", func(e *endings, p *peer, name string) error {
			return errors.Join(p.roundTrip("there and back"), p.bye())
		}},
		{"the first of two backends refuses", "/second", func(e *endings, p *peer, name string) error {
			return errors.Join(p.roundTrip("there and back"), p.bye())
		}},
		{"nothing is said for long", "/idle", closesWith(1001, nil)},
		{"pings are not answered", "/pings", closesWith(1011, nil)},
		{"pings are answered", "/pings", func(e *endings, p *peer, name string) error {
			for n := 1; n <= 3; n++ {
				if err := p.until(func() bool { return p.pings == n }); err != nil {
					return err
				}
				if err := p.write(f(fin|opPong, ""), 0); err != nil {
					return err
				}
			}
			return errors.Join(p.roundTrip("still there"), p.bye())
		}},
		{"the client sends data and closes", "/records", clientEnds("data", closing(1000, ""), true, answered)},
		{"the client sends 1 MiB and closes", "/records", clientEnds(big, closing(1000, ""), true, answered)},
		{"the client sends 1 MiB, closes and half-closes", "/records", clientEnds(big, closing(1000, ""), true, func(p *peer) error {
			return errors.Join(p.CloseWrite(), answered(p))
		})},
		{"the client closes inside a message", "/records", clientEnds("", f(opBinary, "")+closing(1000, ""), true, answered)},
		{"the client resets", "/records", clientEnds("data", "", false, resets)},
		{"the client resets behind 1 MiB", "/records", clientEnds(big, "", false, resets)},
		{"the client ends without a Close", "/records", clientEnds("data", "", false, halfCloses)},
		{"the client ends without a Close behind 1 MiB", "/records", clientEnds(big, "", false, halfCloses)},
		{"the client ends inside a frame", "/records", clientEnds("data", announce(fin|opBinary, 2, 1000, "")[:4], false, halfCloses)},
		{"the client ends inside a message", "/records", clientEnds("data", f(opBinary, ""), false, halfCloses)},
		{"the client breaks the protocol", "/records", clientEnds("data", f(fin|3, ""), false, answered)},
		{"the client breaks the protocol behind 1 MiB", "/records", clientEnds(big, f(fin|3, ""), false, answered)},
		{"the client's text is no UTF-8", "/records", clientEnds("data", f(fin|opText, "\xff"), false, answered)},
		{"the client does not go away", "/echo", func(e *endings, p *peer, name string) error {
			if err := p.write(closing(1000, ""), 0); err != nil {
				return err
			}
			if err := p.untilClose(); err != nil {
				return err
			}
			// The server has closed its side. It must give the connection up by itself: writes fail
			// before the watchdog closes the test's side.
			for {
				if _, err := p.Write([]byte("anything")); err != nil {
					var timeout net.Error
					if errors.As(err, &timeout) && timeout.Timeout() {
						return errors.New("the server keeps the connection")
					}
					return nil
				}
				time.Sleep(10 * time.Millisecond)
			}
		}},
	}
	for _, code := range []int{1001, 3000, 4999, 0} {
		end, name := closing(code, "reason"), fmt.Sprintf("the client sends data and closes with %d", code)
		if code == 0 {
			end, name = f(fin|opClose, ""), "the client sends data and closes without a code"
		}
		rows = append(rows, ending{name, "/records", clientEnds("data", end, true, answered)})
	}
	for _, code := range []int{1002, 1008, 1011} {
		rows = append(rows, ending{fmt.Sprintf("the client sends data and closes with %d", code), "/records",
			clientEnds("data", closing(code, ""), false, answered)})
	}
	return rows
}

// TestRouteEndings ends connections in every way, from both sides. Delivered data stays delivered,
// and the other side learns how the connection ended.
func TestRouteEndings(t *testing.T) {
	e := startEndings(t)
	// Run all at once instead of as parallel subtests, which are limited to the number of
	// processors: the cases mostly wait.
	var all sync.WaitGroup
	for _, by := range transports {
		for i, row := range endingRows() {
			all.Go(func() {
				p, err := e.dial(by, row.path, false, "")
				if err == nil {
					err = row.run(e, p, fmt.Sprintf("%s %d", by, i))
					p.Close()
				}
				if err != nil {
					t.Errorf("%s, %s: %v", by, row.name, err)
				}
			})
		}
		for path, want := range map[string]int{"/refuses": 502, "/hangs": 504} {
			all.Go(func() {
				p, err := e.dial(by, path, false, "")
				var refused *refusedError
				if !errors.As(err, &refused) || refused.status != want {
					t.Errorf("%s, the backend %s: %v, want %d", by, path[1:], err, want)
				}
				if err == nil {
					p.Close()
				}
			})
		}
	}
	all.Wait()
	e.settle(t)
}

// TestRouteDrain stops a server that has connections: those that do not end in time are closed with
// 1001.
func TestRouteDrain(t *testing.T) {
	backend := machine(t).listen(t, "127.0.0.1:0")
	serve(t, backend, func(conn net.Conn) { io.Copy(conn, conn) })
	r := startRoutes(t, route("/echo", backend.Addr().String()))
	var peers []*peer
	for _, by := range transports {
		p, err := r.dial(by, "/echo", false, "")
		if err == nil {
			err = p.roundTrip("before the stop")
		}
		if err != nil {
			t.Fatal(by, err)
		}
		defer p.Close()
		peers = append(peers, p)
	}
	var stopping sync.WaitGroup
	for _, s := range []*server{r.plain, r.secure} {
		s.stopped = true
		s.signal(t, syscall.SIGTERM)
	}
	for i, p := range peers {
		stopping.Go(func() {
			if err := p.untilAnswered(); err != nil || p.code != 1001 {
				t.Errorf("%s: closed with %d, %v; want 1001", transports[i], p.code, err)
			}
		})
	}
	stopping.Wait()
	for _, s := range []*server{r.plain, r.secure} {
		select {
		case <-s.done:
		case <-time.After(patience):
			t.Errorf("%s does not end", s.name)
		}
	}
}
