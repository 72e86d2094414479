package mux

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"adit/tunnel"
)

// growth is how much of a session's budget is used.
func growth(s *Session) int64 {
	s.windows.mu.Lock()
	defer s.windows.mu.Unlock()
	return s.windows.growth
}

// grown is how much of the budget a stream's window uses.
func grown(st *Stream) int64 { return st.core.windows.grown(&st.window) }

// wantAccounted checks that the session knows what its windows have grown by.
func wantAccounted(t *testing.T, s *Session, budget int64) {
	t.Helper()
	w := s.windows
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := int64(0)
	for _, rw := range w.open {
		sum += w.grown(rw)
	}
	if sum != w.growth || sum > budget {
		t.Fatalf("the windows have grown by %d, %d is accounted for, of %d", sum, w.growth, budget)
	}
}

// unusedFor sets the age of the last credit of a stream to d.
func unusedFor(st *Stream, d time.Duration) {
	st.core.windows.mu.Lock()
	st.window.since = time.Now().Add(-d)
	st.core.windows.mu.Unlock()
}

// setLastRevoke makes the session revoke unused credit from bulkPace after at on.
func setLastRevoke(s *Session, at time.Time) {
	s.windows.mu.Lock()
	s.windows.lastRevoke = at
	s.windows.mu.Unlock()
}

func revokeNow(s *Session) {
	s.windows.mu.Lock()
	s.windows.revoke(time.Now())
	s.windows.mu.Unlock()
}

// wantAnswered waits until no revocation of a stream is left to be answered.
func wantAnswered(t *testing.T, st *Stream) {
	t.Helper()
	eventually(t, "the answer to a revocation", func() bool {
		st.core.windows.mu.Lock()
		defer st.core.windows.mu.Unlock()
		return st.window.revoked == 0
	})
}

// pump sends n bytes from one stream to the other.
func pump(t *testing.T, from, to *Stream, n int) {
	t.Helper()
	reader := async(func() error { _, err := io.CopyN(io.Discard, to, int64(n)); return err })
	if _, err := from.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if err := await(t, "end of the reader", reader); err != nil {
		t.Fatal(err)
	}
}

// wantSettled waits until the two ends of an idle stream agree on how many bytes
// may be sent.
func wantSettled(t *testing.T, writer, reader *Stream) {
	t.Helper()
	w := &reader.window
	eventually(t, "credit and consumed bytes add up to the window", func() bool {
		return writer.credit.bytes.Load()+w.consumed.Load() == w.size.Load()
	})
	if c := w.consumed.Load(); c > 0 && c >= w.size.Load()/4 {
		t.Fatalf("no credit is given for %d bytes of %d", c, w.size.Load())
	}
}

// A bulk stream's window grows as far as the budget allows; the window of a stream
// with a slow reader does not.
func TestWindowGrowth(t *testing.T) {
	const budget = 4 << 20
	client, server := newPair(t, &Config{WindowBudget: budget})
	setLastRevoke(server, time.Now().Add(time.Hour)) // what has grown stays, however slow the machine is
	var streams []*Stream
	for range 8 {
		near, far := openPair(t, client, server)
		streams = append(streams, near, far)
		pump(t, near, far, 16<<20)
		wantAccounted(t, server, budget)
		if len(streams) == 2 && grown(far) < 3*int64(server.cfg.InitialCredit) {
			t.Errorf("a bulk stream's window has grown by %d", grown(far))
		}
	}
	if g := growth(server); g < budget/4 {
		t.Errorf("of %d bytes only %d are used", budget, g)
	}
	for i, st := range streams {
		if i%2 == 0 {
			st.Close()
		}
	}
	for i, st := range streams {
		if i%2 == 1 {
			st.Close()
		}
	}
	eventually(t, "the budget is given back", func() bool { return growth(server) == 0 })

	// A reader that takes a quarter of the window in a hundred round trips.
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	writer, _ := fill(t, near)
	for range 20 {
		unusedFor(far, 200*max(server.RTT(), assumedRTT))
		if _, err := io.CopyN(io.Discard, far, 16<<10); err != nil {
			t.Fatal(err)
		}
	}
	if grown(far) != 0 {
		t.Errorf("a slow stream's window has grown by %d", grown(far))
	}
	near.Reset(Reset)
	<-writer
}

// A large window that is used after a long pause does not grow.
func TestWindowAfterAPause(t *testing.T) {
	client, server := newPair(t, nil)
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	far.window.size.Store(8 << 20)
	unusedFor(far, 24*time.Hour)
	server.windows.consumed(&far.window, 2<<20)
	if size := far.window.size.Load(); size != 8<<20 {
		t.Errorf("the window has grown to %d", size)
	}
	far.window.size.Store(int64(server.cfg.InitialCredit)) // as the budget counts it
}

// Windows that have grown and are not used make room for new streams when the shared
// limit is short, although the session's own budget is not.
func TestUnusedWindowsReturnToTheSharedLimit(t *testing.T) {
	limit := NewCreditLimit(bulkWindow+32<<10, nil)
	cc, sc := newConns(t)
	client, server := newPairOn(t, cc, sc, nil, &Config{CreditLimit: limit})
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	eventually(t, "the window grows", func() bool {
		pump(t, near, far, 1<<20)
		return limit.Used() == bulkWindow
	})
	wantSettled(t, near, far)
	unusedFor(far, time.Hour)
	setLastRevoke(server, time.Time{})
	accepted := async(func() *Stream { st, _ := server.Accept(); return st })
	eventually(t, "a stream is accepted", func() bool {
		st, err := client.Open(t.Context(), anywhere)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		time.Sleep(20 * time.Millisecond)
		select {
		case other := <-accepted:
			other.Close()
			return true
		default:
			return false
		}
	})
	wantAccounted(t, server, bulkWindow)
}

// Windows that have grown and are not used give their budget to other streams.
func TestUnusedWindowsReturn(t *testing.T) {
	const budget = 2 << 20
	client, server := newPair(t, &Config{WindowBudget: budget})
	setLastRevoke(server, time.Now().Add(time.Hour)) // not yet
	var nears, fars []*Stream
	for range 8 {
		near, far := openPair(t, client, server)
		defer near.Close()
		defer far.Close()
		nears, fars = append(nears, near), append(fars, far)
	}
	last := len(fars) - 1
	for i := range last {
		pump(t, nears[i], fars[i], 4<<20)
	}
	if g := growth(server); g < budget/2 {
		t.Fatalf("only %d of %d are used", g, budget)
	}
	// Those in use keep what they have.
	before := growth(server)
	for i := range last {
		unusedFor(fars[i], 0)
	}
	revokeNow(server)
	if g := growth(server); g != before {
		t.Fatalf("windows that are used have shrunk from %d to %d", before, g)
	}
	for i := range last {
		wantSettled(t, nears[i], fars[i])
		unusedFor(fars[i], time.Hour)
	}
	setLastRevoke(server, time.Time{})
	eventually(t, "the last window grows", func() bool {
		pump(t, nears[last], fars[last], 1<<20)
		return grown(fars[last]) >= bulkWindow-int64(server.cfg.InitialCredit)
	})
	for i := range last {
		eventually(t, "an unused window is small", func() bool { return grown(fars[i]) == 0 })
		wantSettled(t, nears[i], fars[i])
	}
	wantAccounted(t, server, budget)
	// And may grow again.
	pump(t, nears[0], fars[0], 4<<20)
	if grown(fars[0]) == 0 {
		t.Error("a window grows only once")
	}
}

// Unread bytes stay in the window, and reading them grants credit again.
func TestRevokeBeforeRead(t *testing.T) {
	client, server := newPair(t, nil)
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	pump(t, near, far, 16<<20)
	wantSettled(t, near, far)
	unread := int64(0)
	for near.credit.bytes.Load() > 40<<10 {
		n := min(near.credit.bytes.Load()-(32<<10), 64<<10)
		if _, err := near.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		unread += n
	}
	unusedFor(far, time.Hour)
	revokeNow(server)
	wantAnswered(t, far)
	if far.window.size.Load() < unread {
		t.Fatalf("%d bytes are unread, the window is %d", unread, far.window.size.Load())
	}
	if _, err := io.CopyN(io.Discard, far, unread); err != nil {
		t.Fatal(err)
	}
	pump(t, near, far, 4<<20)
	wantSettled(t, near, far)
}

// Each byte of credit is either used or returned, never both.
func TestCreditIsSpentOnce(t *testing.T) {
	var credit sendCredit
	used := async(func() (sum int64) {
		for range 1_000_000 {
			if n := credit.takeFrame(1, 50); n > 0 {
				sum += int64(frameHeader + n)
			}
			if c := credit.bytes.Load(); c < 0 {
				t.Errorf("a credit of %d", c)
				break
			}
		}
		return sum
	})
	given, returned := int64(0), int64(0)
	for range 1_000_000 {
		given += 60
		credit.bytes.Add(60)
		returned += credit.takeUnused(100)
	}
	if used, left := await(t, "end of the writer", used), credit.bytes.Load(); used+returned+left != given {
		t.Fatalf("of %d bytes %d are used, %d returned, %d left", given, used, returned, left)
	}
}

// Credit that is revoked while it is being used is spent only once: nothing is sent
// beyond the window, nothing is lost, and the writer does not stall.
func TestRevokeWhileWriting(t *testing.T) {
	client, server := newPair(t, nil)
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	want := randomBytes(7, 32<<20)
	stop := make(chan struct{})
	revocations := async(func() int {
		n := 0
		for !closed(stop) {
			unusedFor(far, time.Hour)
			server.windows.mu.Lock()
			server.windows.revoke(time.Now())
			if far.window.revoked > 0 {
				n++
			}
			server.windows.mu.Unlock()
			time.Sleep(50 * time.Microsecond)
		}
		return n
	})
	sent := async(func() error {
		for i, p := 0, want; len(p) > 0; i++ {
			n, err := 0, error(nil)
			give := func(size int) (*tunnel.Buffer, int, error) {
				b := tunnel.NewBuffer()
				return b, copy(b.Bytes[tunnel.BufferHeadroom:][:size], p), nil
			}
			switch i % 3 {
			case 0:
				n, err = near.Write(p[:min(len(p), 100_000)])
			case 1:
				b, k, _ := give(min(len(p), tunnel.BufferSize))
				n, err = near.WriteOwned(b, k)
			case 2:
				_, _, err = near.WriteFrom(func(size int) (*tunnel.Buffer, int, error) {
					b, k, err := give(min(size, len(p)/8)) // WriteFrom may ask several times
					p = p[k:]
					return b, k, err
				})
				n = 0
			}
			if err != nil {
				return err
			}
			p = p[n:]
		}
		return near.CloseWrite()
	})
	got, err := io.ReadAll(far)
	close(stop)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes of %d: %v", len(got), len(want), err)
	}
	if err := await(t, "end of the writer", sent); err != nil {
		t.Fatal(err)
	}
	if n := await(t, "end of the revocations", revocations); n == 0 {
		t.Error("nothing was revoked")
	}
	wantSettled(t, near, far)
	wantAnswered(t, far)
	wantSettled(t, near, far)
}

// Returning more credit than was revoked is a protocol error.
func TestHostileReturn(t *testing.T) {
	for name, n := range map[string]uint32{"unasked": 1, "all that there can be": 1<<32 - 1} {
		t.Run(name, func(t *testing.T) {
			r, st := newRawStream(t)
			r.control(controlFrame{controlReturned, 3, n})
			await(t, "end of the stream", st.done)
			if _, err := st.Write([]byte("x")); !errors.Is(err, ErrProtocol) {
				t.Fatal(err)
			}
		})
	}
}

// A peer that revokes credit again and again gets all there is, once, and the
// answers take no more memory than one answer.
func TestHostileRevoke(t *testing.T) {
	r, st := newRawStream(t)
	s := st.owner.(*Session)
	queued := 0
	for range 100 {
		r.control(slices.Repeat([]controlFrame{{controlRevoke, 3, 1<<32 - 1}}, 100)...)
		s.control.mu.Lock()
		queued = max(queued, len(s.control.notices))
		s.control.mu.Unlock()
	}
	r.control(controlFrame{typ: controlGoingAway})
	<-s.GoingAway()
	if c := st.credit.bytes.Load(); c != 0 || queued > 1 {
		t.Errorf("a credit of %d, %d answers", c, queued)
	}
	writer := async(func() error { _, err := st.Write([]byte("x")); return err })
	r.control(controlFrame{controlCredit, 3, 100})
	if err := await(t, "end of the write", writer); err != nil {
		t.Fatal(err)
	}
}

// A writer makes progress with credit that is granted byte by byte.
func TestTinyCredit(t *testing.T) {
	r, st := newRawStream(t)
	st.credit.bytes.Store(0)
	writer := async(func() error { _, err := st.Write([]byte("abc")); return err })
	for range 3 * (frameHeader + 1) {
		r.control(controlFrame{controlCredit, 3, 1})
	}
	if err := await(t, "end of the write", writer); err != nil {
		t.Fatal(err)
	}
}
