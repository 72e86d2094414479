//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestHostileClients misbehaves in many ways over every transport. The server's memory stays
// bounded, other clients are not affected, and no descriptor leaks.
func TestHostileClients(t *testing.T) {
	_, addr := echoProcess(t, "127.0.0.1:0")
	h := machine(t)
	floods, unread := h.listen(t, "127.0.0.1:0"), h.listen(t, "127.0.0.1:0")
	serve(t, floods, func(conn net.Conn) { io.Copy(struct{ io.Writer }{conn}, zeros{}) })
	release := make(chan struct{})
	serve(t, unread, func(conn net.Conn) { <-release })
	// This must run before the cleanup that waits for the backends.
	t.Cleanup(func() { close(release) })
	r := startRoutes(t, route("/echo", addr)+route("/floods", floods.Addr().String())+
		// The server does not read from a client whose backend accepts no more data: only its pings
		// detect that the client is gone.
		route("/unread", unread.Addr().String(), `ping-interval = "1s"`, `linger-timeout = "1s"`)+
		route("/watched", addr, `ping-interval = "1s"`, `pong-timeout = "1s"`))
	for _, by := range transports {
		t.Run(string(by), func(t *testing.T) {
			s, beside := r.secure, overTLS
			if by == overTCP {
				s, beside = r.plain, overTCP
			}
			p, err := r.dial(beside, "/echo", false, "")
			if err != nil {
				t.Fatal(err)
			}
			b := &bystander{stop: make(chan struct{})}
			b.done.Go(func() { b.run(p) })
			before := s.usage(t).memory
			for _, bad := range hostilities {
				t.Run(bad.name, func(t *testing.T) {
					if err := bad.run(t, r, by); err != nil {
						t.Error(err)
					}
					t.Logf("memory: now %d MiB, at most %d MiB", s.usage(t).memory>>20, peakMemory(t, s.process)>>20)
				})
			}
			close(b.stop)
			b.done.Wait()
			if b.err != nil {
				t.Errorf("the bystander, after %d round trips: %v", b.trips, b.err)
			}
			most := peakMemory(t, s.process)
			t.Logf("the bystander made %d round trips, the longest in %v; memory at most %d MiB, at first %d", b.trips, b.worst, most>>20, before>>20)
			if most-before > hostileGrowth {
				t.Errorf("the server grew by %d MiB", (most-before)>>20)
			}
		})
	}
	r.settle(t)
}

// A bystander keeps using a route while other clients misbehave.
type bystander struct {
	stop  chan struct{}
	done  sync.WaitGroup
	trips int
	worst time.Duration
	err   error
}

func (b *bystander) run(p *peer) {
	defer p.Close()
	for b.err == nil {
		select {
		case <-b.stop:
			b.err = p.bye()
			return
		default:
		}
		start := time.Now()
		p.wire.(interface{ SetDeadline(time.Time) error }).SetDeadline(start.Add(watchdog))
		p.data = p.data[:0]
		b.err = p.roundTrip("still there?")
		b.worst = max(b.worst, time.Since(start))
		b.trips++
		time.Sleep(time.Millisecond)
	}
}

// hostility is one thing that misbehaving clients do.
type hostility struct {
	name string
	run  func(t *testing.T, r *routeServers, by transport) error
}

// hostileGrowth bounds the growth of the server's memory during all of them. Most is what HTTP/2
// allows clients to send ahead, up to 1 MiB per connection.
const hostileGrowth = 192 << 20

var hostilities = []hostility{
	{"handshakes that come slowly", slowHandshakes},
	{"silent connections", func(t *testing.T, r *routeServers, by transport) error { return openAndAbandon(r, by, 600, "") }},
	{"peers that stop answering", unresponsivePeers},
	{"pings whose answers are not read", unreadPings},
	{"pings without end", manyPings},
	{"frames that announce 2^63-1 bytes", hugeFrames},
	{"frames of one byte", func(t *testing.T, r *routeServers, by transport) error { return manyFrames(t, r, by, "x") }},
	{"frames of no byte", func(t *testing.T, r *routeServers, by transport) error { return manyFrames(t, r, by, "") }},
	{"clients that do not read", func(t *testing.T, r *routeServers, by transport) error {
		return manyPeers(t, r, by, 40, "/floods", func(p *peer) error { return stuck(p, nil) })
	}},
	{"backends that do not read", func(t *testing.T, r *routeServers, by transport) error {
		frame := []byte(f(fin|opBinary, binaryPayload(60_000)))
		return manyPeers(t, r, by, 40, "/unread", func(p *peer) error { return stuck(p, frame) })
	}},
	{"clients that leave at once", func(t *testing.T, r *routeServers, by transport) error {
		return repeat(amountOf(1000), func(i int) error {
			p, err := r.dial(by, "/echo", false, f(fin|opBinary, "never mind"))
			if err != nil {
				return err
			}
			switch i % 3 {
			case 0:
				p.Reset()
			case 1:
				p.CloseWrite()
			}
			p.Close()
			return nil
		})
	}},
}

// amountOf reduces a number under -short.
func amountOf(n int) int {
	if testing.Short() {
		return max(n/20, 10)
	}
	return n
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// openAndAbandon opens TCP connections, sends text on each, waits and closes all.
func openAndAbandon(r *routeServers, by transport, n int, text string) error {
	addr := r.secure.addr
	if by == overTCP {
		addr = r.plain.addr
	}
	conns := make([]net.Conn, amountOf(n))
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	return repeat(len(conns), func(i int) (err error) {
		if conns[i], err = net.DialTimeout("tcp", addr, watchdog); err != nil {
			return err
		}
		io.WriteString(conns[i], text)
		return nil
	})
}

// slowHandshakes starts a thousand requests (over TLS, a thousand handshakes) and completes none.
func slowHandshakes(t *testing.T, r *routeServers, by transport) error {
	begin := "GET /echo HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
	if by != overTCP {
		begin = "\x16\x03\x01\x01\x00\x01"
	}
	return openAndAbandon(r, by, 1000, begin)
}

// manyPeers opens n connections to a route, calls do for each, and resets them all.
func manyPeers(t *testing.T, r *routeServers, by transport, n int, path string, do func(*peer) error) error {
	peers := make([]*peer, n)
	defer func() {
		for _, p := range peers {
			if p != nil {
				p.Reset()
				p.Close()
			}
		}
	}()
	if err := repeat(n, func(i int) (err error) {
		peers[i], err = r.dial(by, path, false, "")
		return err
	}); err != nil {
		return err
	}
	var all sync.WaitGroup
	errs := make([]error, n)
	for i, p := range peers {
		all.Go(func() { errs[i] = do(p) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// stuck writes b without reading until the connection accepts no more data. If b is nil it only
// waits for a moment.
func stuck(p *peer, b []byte) error {
	const moment = 300 * time.Millisecond
	if b == nil {
		time.Sleep(moment)
		return nil
	}
	var last atomic.Int64
	last.Store(time.Now().UnixNano())
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := p.Write(b); err != nil {
				// The connection was reset below.
				ended <- nil
				return
			}
			last.Store(time.Now().UnixNano())
		}
	}()
	for deadline := time.Now().Add(watchdog); ; {
		select {
		case <-ended:
			return errors.New("the connection ended instead of getting stuck")
		case <-time.After(moment / 10):
		}
		if time.Since(time.Unix(0, last.Load())) > moment {
			break
		}
		if time.Now().After(deadline) {
			return errors.New("all is taken: there is no back-pressure")
		}
	}
	p.Reset()
	p.Close()
	return <-ended
}

// unresponsivePeers neither read nor answer pings. The server closes them.
func unresponsivePeers(t *testing.T, r *routeServers, by transport) error {
	return manyPeers(t, r, by, amountOf(100), "/watched", func(p *peer) error {
		if err := p.untilCloseFrame(); err != nil {
			return err
		}
		return closedWith(p, 1011, nil)
	})
}

// unreadPings sends pings and reads no pongs until the server stops reading.
func unreadPings(t *testing.T, r *routeServers, by transport) error {
	pings := bytes.Repeat([]byte(f(fin|opPing, binaryPayload(125))), 500)
	return manyPeers(t, r, by, 20, "/echo", func(p *peer) error { return stuck(p, pings) })
}

// manyPings sends pings and reads the answer to each.
func manyPings(t *testing.T, r *routeServers, by transport) error {
	n := amountOf(200_000)
	return manyPeers(t, r, by, 1, "/echo", func(p *peer) error {
		pings := strings.Repeat(f(fin|opPing, "p"), n)
		seen := 0
		return whileWriting(p, pings, 64<<10, func() error {
			return p.until(func() bool {
				seen += len(p.pongs)
				p.pongs = p.pongs[:0]
				return seen == n
			})
		})
	})
}

// hugeFrames sends headers of huge frames and a part of their payload.
func hugeFrames(t *testing.T, r *routeServers, by transport) error {
	frame := announce(fin|opBinary, 8, 1<<63-1, binaryPayload(64<<10))
	return manyPeers(t, r, by, amountOf(200), "/echo", func(p *peer) error {
		return whileWriting(p, frame, 0, func() error {
			return p.until(func() bool { return len(p.data) == 64<<10 })
		})
	})
}

// manyFrames sends a million frames with the same payload.
func manyFrames(t *testing.T, r *routeServers, by transport, payload string) error {
	n := amountOf(1_000_000)
	frames := strings.Repeat(f(fin|opBinary, payload), 1000)
	return manyPeers(t, r, by, 1, "/echo", func(p *peer) error {
		got := 0
		p.onData = func(b []byte) error { got += len(b); return nil }
		wrote := make(chan error, 1)
		go func() {
			for range n / 1000 {
				if err := p.write(frames, 0); err != nil {
					wrote <- err
					return
				}
			}
			wrote <- p.write(f(fin|opPing, "the last"), 0)
		}()
		err := p.until(func() bool { return got == n/1000*1000*len(payload) && len(p.pongs) == 1 })
		if err != nil {
			p.Close()
		}
		return errors.Join(err, <-wrote)
	})
}
