package link

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"adit/tunnel"
)

// A probe has its own, shorter bound. An answered one leaves neither its bound
// nor a gap for the next.
func TestProbe(t *testing.T) {
	t.Parallel()
	a, b, path := newPair(t, Config{})
	end := readAll(a)
	readAll(b)
	answered := func() bool {
		a.mu.Lock()
		c := a.conn
		a.mu.Unlock()
		by := c.probeBy.Load()
		return by == 0 || c.answered(a, by)
	}
	for range 3 {
		a.Probe()
		eventually(t, "an answer", answered)
	}
	path.Stall(true)
	start := time.Now()
	a.Probe()
	select {
	case err := <-end:
		if !errors.Is(err, ErrLost) {
			t.Error(err)
		}
	case <-time.After(watchdog):
		t.Fatal("the link did not end")
	}
	if d := time.Since(start); d < probeTimeout {
		t.Errorf("given up after %v", d)
	}
	path.Stall(false)
}

// A probe that was answered is not pending any more.
func TestProbeAnswered(t *testing.T) {
	t.Parallel()
	a, b, _ := newPair(t, Config{})
	readAll(a)
	readAll(b)
	a.Probe()
	select {
	case <-a.Done():
		t.Fatal(a.Err())
	case <-time.After(probeTimeout + probeTimeout/4):
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn.probeBy.Load() != 0 {
		t.Error("the probe is still pending")
	}
}

// Only a pong that answers a ping of this side counts.
func TestForgedPongs(t *testing.T) {
	a, b, _ := newPair(t, Config{})
	readAll(a)
	readAll(b)
	eventually(t, "a measured round-trip time", func() bool { return a.RTT() > 0 })
	before := a.RTT()
	for _, v := range []uint64{1 << 63, 1<<64 - 1, 1<<63 - 1, uint64(time.Since(a.start) + time.Hour)} {
		a.pong(binary.BigEndian.AppendUint64(nil, v))
	}
	a.pong(nil)
	a.pong(make([]byte, 9))
	if after := a.RTT(); after != before {
		t.Errorf("the round-trip time became %v", after)
	}
	if a.pong(make([]byte, 8)); a.RTT() <= 0 {
		t.Errorf("the round-trip time became %v", a.RTT())
	}
}

// Acknowledgements free the other end's memory, for bulk data and when it is
// quiet, and do not cause each other endlessly.
func TestAcknowledgements(t *testing.T) {
	a, b, _ := newPair(t, Config{Hold: time.Minute, Resumable: true})
	readAll(a)
	readAll(b)
	for _, size := range []int{1, 100, 1 << 20, 8 << 20} {
		before := b.Received()
		if err := a.Write(make([]byte, size), nil); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all is received", func() bool { return b.Received() == before+uint64(size) })
		eventually(t, "all is acknowledged", func() bool {
			return a.Stats().Unacknowledged == 0 && b.Stats().Unacknowledged == 0
		})
	}
	conn := a.Conn()
	last := conn.LastRead()
	time.Sleep(10 * ackDelay)
	if now := conn.LastRead(); now.After(last.Add(2 * ackDelay)) {
		t.Error("acknowledgements are still exchanged")
	}
}

// Corked bytes do not hold up a writer that waits for the low watermark.
func TestCorkedBytesLeaveForALowWatermark(t *testing.T) {
	a, b, _ := newPair(t, Config{})
	readAll(b)
	for range MaxFrame / 16 {
		if err := a.WriteHeader(make([]byte, 16), true); err != nil {
			t.Fatal(err)
		}
	}
	waited := make(chan error, 1)
	go func() { waited <- a.WaitLowWatermark(nil) }()
	select {
	case err := <-waited:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(watchdog):
		t.Fatal("the queue did not get shorter")
	}
}

// Corked bytes leave after a while by themselves.
func TestCorkedBytesLeave(t *testing.T) {
	a, b, _ := newPair(t, Config{})
	readAll(a)
	readAll(b)
	if err := a.WriteHeader([]byte("corked"), true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bytes are received", func() bool { return b.Received() == 6 })
}

// Corked bytes stay queued until the next bytes are written, and leave with
// those.
func TestCorkedBytesLeaveWithTheNext(t *testing.T) {
	a, b, _ := newPair(t, Config{})
	readAll(b)
	a.mu.Lock()
	a.ackTimer.Stop()
	a.ackTimer = stopped(func() {}) // nothing leaves by time
	a.mu.Unlock()
	if err := a.WriteHeader([]byte("corked"), true); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	corked := a.send.tail == a.corkedTo && !a.sendable()
	a.mu.Unlock()
	if !corked {
		t.Error("the bytes do not wait")
	}
	if err := a.Write([]byte("next"), nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all is received", func() bool { return b.Received() == 10 })
}

// Several goroutines that write, small writes between them, and a connection that
// is slow: everything arrives, once and in order.
func TestWriteFromManyGoroutines(t *testing.T) {
	a, b, path := newPair(t, Config{SendBuffer: 4 << 20})
	path.Chop(1000)
	readAll(a)
	const writers, rounds, size = 4, 50, 32 << 10
	got := make(chan []byte, 1)
	go func() {
		p := make([]byte, writers*rounds*(size+1))
		_, err := io.ReadFull(b, p)
		if err != nil {
			p = nil
		}
		got <- p
	}()
	var order sync.Mutex // as the adapter's: one writer at a time
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for range rounds {
				buffer := tunnel.NewBuffer()
				for i := range size {
					buffer.Bytes[chunkHeadroom+i] = byte(w)
				}
				order.Lock()
				err := a.WriteOwned(buffer, chunkHeadroom, chunkHeadroom+size, nil)
				if err == nil {
					err = a.Write([]byte{byte(w) + 100}, nil)
				}
				order.Unlock()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	p := <-got
	for len(p) > 0 {
		for i, c := range p[:size] {
			if c != p[0] {
				t.Fatalf("byte %d of a buffer is %d, the first is %d", i, c, p[0])
			}
		}
		if p[size] != p[0]+100 {
			t.Fatalf("after %d came %d", p[0], p[size])
		}
		p = p[size+1:]
	}
	if a.Stats().Queued != 0 {
		t.Error("bytes are still queued")
	}
}

// A header waits for a peer that takes none, but not for a connection.
func TestHeaderDoesNotWaitForAConnection(t *testing.T) {
	a, _, path := newPair(t, Config{Hold: time.Hour, Resumable: true})
	readAll(a)
	path.Stall(true)
	var written atomic.Int64
	go func() {
		for a.WriteHeader(make([]byte, 1<<10), false) == nil && written.Add(1) < 4<<10 {
		}
	}()
	eventually(t, "the headers wait", func() bool {
		before := written.Load()
		time.Sleep(50 * time.Millisecond)
		return before > 0 && before == written.Load()
	})
	if n := written.Load(); n >= 4<<10 {
		t.Fatalf("%d KiB of headers did not wait", n)
	}
	path.Cut()
	eventually(t, "the headers go on", func() bool { return written.Load() == 4<<10 })
}

// A header does not wait for bytes that are being sent again after a resumption.
func TestHeaderDoesNotWaitForAReplay(t *testing.T) {
	a, _, path := newPair(t, Config{Hold: time.Hour, Resumable: true, SendBuffer: 8 << 20})
	readAll(a)
	path.Cut()
	eventually(t, "the link is detached", func() bool { return a.Conn() == nil })
	a.mu.Lock()
	a.queue(make([]byte, 4<<20))
	a.send.sent, a.send.high = a.send.tail, a.send.tail // as if it had been sent
	a.mu.Unlock()
	if _, _, err := a.Detach(0); err != nil {
		t.Fatal(err)
	}
	next, peer, _ := newConns(t)
	t.Cleanup(func() { peer.CloseNow() })
	if err := a.Attach(next); err != nil {
		t.Fatal(err)
	}
	wrote := make(chan error, 1)
	go func() { wrote <- a.WriteHeader(make([]byte, 12), false) }()
	select {
	case err := <-wrote:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(watchdog):
		t.Fatal("the header waits")
	}
}
