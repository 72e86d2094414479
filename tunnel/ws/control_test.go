package ws

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPingPong(t *testing.T) {
	for _, s := range bothSides {
		t.Run(s.name, func(t *testing.T) {
			raw, c := s.start(t, Options{})
			pongs := make(chan string, 1)
			c.OnPong(func(p []byte) { pongs <- string(p) })
			done := make(chan struct{})
			go func() { defer close(done); c.NextMessage() }()
			for _, p := range []string{"", "one", strings.Repeat("x", 125)} {
				if err := c.Ping([]byte(p)); err != nil {
					t.Fatal(err)
				}
				f := s.mustFrame(t, raw)
				if f != (rawFrame{fin | ping, p}) {
					t.Fatalf("sent %q, want ping %q", f, p)
				}
				raw.Write(s.frame(fin|pong, p))
				if got := <-pongs; got != p {
					t.Errorf("OnPong got %q, want %q", got, p)
				}
			}
			c.CloseNow()
			<-done
		})
	}
}

// stuffed returns a Conn whose peer does not read, and the result of a write that blocks.
func stuffed(t *testing.T, s side, opts Options) (raw *net.TCPConn, c *Conn, blocked chan error) {
	t.Helper()
	raw, c = s.start(t, opts)
	blocked = make(chan error, 1)
	began := make(chan struct{})
	go func() {
		b := make([]byte, c.Headroom()+32<<20)
		close(began)
		blocked <- c.WriteBuffer(OpBinary, b)
	}()
	<-began
	// When the first byte of the message has arrived, the writer holds writeMu.
	var one [1]byte
	if _, err := io.ReadFull(raw, one[:]); err != nil {
		t.Fatal(err)
	}
	return raw, c, blocked
}

// Pings of a peer that does not read the pongs stop the reader, and the queue stays bounded. When the peer reads
// again, it gets every pong in order.
func TestPingFlood(t *testing.T) {
	for _, s := range bothSides {
		t.Run(s.name, func(t *testing.T) {
			raw, c, blocked := stuffed(t, s, Options{})
			goroutines := runtime.NumGoroutine()
			const flood = 5000
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				for i := range flood {
					raw.Write(s.frame(fin|ping, fmt.Sprint(i)))
				}
				raw.Write(s.frame(fin|bin, "after"))
			}()
			got := make(chan message, 1)
			go func() {
				c.NextMessage()
				b, _ := io.ReadAll(c)
				got <- message{OpBinary, string(b), true}
			}()
			waitFor(t, "the reader to stop", func() bool {
				c.controlMu.Lock()
				defer c.controlMu.Unlock()
				return c.pongs == maxPendingPongs
			})
			if n := runtime.NumGoroutine(); n > goroutines+8 {
				t.Errorf("%d goroutines, %d before the flood", n, goroutines)
			}
			// The rest of the blocked message, then the pongs.
			rest := int64(32<<20 + 9)
			if s.client {
				rest += 4
			}
			if _, err := io.CopyN(io.Discard, raw, rest); err != nil {
				t.Fatal(err)
			}
			for i := range flood {
				if f := s.mustFrame(t, raw); f != (rawFrame{fin | pong, fmt.Sprint(i)}) {
					t.Fatalf("pong %d is %q", i, f)
				}
			}
			if m := <-got; m.payload != "after" {
				t.Errorf("read %q", m.payload)
			}
			if err := <-blocked; err != nil {
				t.Error(err)
			}
			<-sent
		})
	}
}

// With LatestPongOnly the reader does not stop, and the newest ping is answered.
func TestLatestPongOnly(t *testing.T) {
	for _, s := range bothSides {
		t.Run(s.name, func(t *testing.T) {
			raw, c, blocked := stuffed(t, s, Options{LatestPongOnly: true})
			for i := range 1000 {
				raw.Write(s.frame(fin|ping, fmt.Sprint(i)))
			}
			raw.Write(s.frame(fin|bin, "after"))
			c.NextMessage()
			if b, err := io.ReadAll(c); string(b) != "after" || err != nil {
				t.Fatalf("read %q, %v", b, err)
			}
			rest := int64(32<<20 + 9)
			if s.client {
				rest += 4
			}
			io.CopyN(io.Discard, raw, rest)
			if f := s.mustFrame(t, raw); f != (rawFrame{fin | pong, "999"}) {
				t.Errorf("sent %q", f)
			}
			if err := <-blocked; err != nil {
				t.Error(err)
			}
		})
	}
}

// Ping never blocks, and the queue of our pings is bounded.
func TestPingNeverBlocks(t *testing.T) {
	_, c, blocked := stuffed(t, bothSides[0], Options{})
	for i := range maxPendingPings {
		if err := c.Ping(nil); err != nil {
			t.Errorf("ping %d: %v", i, err)
		}
	}
	if err := c.Ping(nil); err != ErrPingPending {
		t.Errorf("one ping too many: %v", err)
	}
	c.CloseNow()
	<-blocked
}

func TestConcurrentWriters(t *testing.T) {
	for _, s := range bothSides {
		t.Run(s.name, func(t *testing.T) {
			raw, c := s.start(t, Options{})
			const writers, each = 8, 200
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					b := make([]byte, c.Headroom()+1000)
					for i := range each {
						p := fmt.Sprintf("%d:%d:%s", w, i, strings.Repeat("x", i*5))
						if i%2 == 0 {
							c.WriteMessage(OpText, []byte(p))
						} else {
							c.WriteBuffer(OpText, append(b[:c.Headroom()], p...))
						}
						c.Ping(nil)
					}
				})
			}
			next := [writers]int{}
			for n := 0; n < writers*each; {
				f := s.mustFrame(t, raw)
				if f.first == fin|ping {
					continue
				}
				n++
				var w, i int
				var x string
				fmt.Sscanf(f.payload, "%d:%d:%s", &w, &i, &x)
				if f.first != fin|text || i != next[w] || len(x) != i*5 {
					t.Fatalf("writer %d: message %q, want number %d", w, f.payload, next[w])
				}
				next[w]++
			}
			wg.Wait()
		})
	}
}

// Nothing is written after a frame that a deadline has cut short.
func TestWriteDeadline(t *testing.T) {
	_, c, blocked := stuffed(t, bothSides[0], Options{})
	c.NetConn().SetWriteDeadline(time.Now())
	err := <-blocked
	if ne, ok := errorAs[net.Error](err); !ok || !ne.Timeout() {
		t.Errorf("blocked writer: %v, want a timeout", err)
	}
	if again := c.WriteMessage(OpBinary, nil); again != err {
		t.Errorf("write after a cut frame: %v", again)
	}
}

// waitFor polls until ok is true.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(watchdog); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited too long for %s", what)
		}
		runtime.Gosched()
	}
}
