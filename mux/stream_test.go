package mux

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"adit/mux/link"
	"adit/tunnel"
)

// Bytes written right after Open arrive with the opening: in the first message of the
// link that has anything of the stream.
func TestOpenAndDataLeaveTogether(t *testing.T) {
	r, _ := newRawServerStream(t, "first")
	var got []byte
	want := appendOpen(nil, anywhere)
	for n := 0; !bytes.Contains(got, []byte("first")); n++ {
		if n == 3 { // the link may split them where its writer was quick, but waits for nothing
			t.Fatalf("still waiting for the data after %x", got)
		}
		got = append(got, r.readData()...)
	}
	if !bytes.Contains(got, want) {
		t.Fatalf("no header in %x", got)
	}
	// Nothing has come back so far but the hello.
}

func TestOneRoundTrip(t *testing.T) {
	client, server := newPair(t, nil)
	near, err := client.Open(t.Context(), anywhere)
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	if _, err := near.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	far, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	if got, err := far.ReadTarget(); err != nil || got != anywhere || far.Target() != anywhere {
		t.Fatalf("target %v, %v", got, err)
	}
	b := make([]byte, 4)
	if _, err := io.ReadFull(far, b); err != nil || string(b) != "ping" {
		t.Fatalf("%q, %v", b, err)
	}
	if err := far.Connected(); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Write([]byte("pong")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(near, b); err != nil || string(b) != "pong" {
		t.Fatalf("%q, %v", b, err)
	}
	if err := near.Result(); err != nil {
		t.Fatal(err)
	}
}

// Each direction ends by itself, and the other continues.
func TestHalfClose(t *testing.T) {
	client, server := newPair(t, nil)
	for _, clientFirst := range []bool{true, false} {
		near, far := openPair(t, client, server)
		first, second := near, far
		if !clientFirst {
			first, second = far, near
		}
		if err := first.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := first.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Fatalf("a write after the end: %v", err)
		}
		if b, err := io.ReadAll(second); err != nil || len(b) > 0 {
			t.Fatalf("%q, %v", b, err)
		}
		for range 3 {
			if _, err := second.Read(make([]byte, 1)); err != io.EOF {
				t.Fatalf("after the end: %v", err)
			}
		}
		late := randomBytes(1, 1<<20)
		sent := async(func() error {
			_, err := second.Write(late)
			return errors.Join(err, second.CloseWrite())
		})
		if b, err := io.ReadAll(first); err != nil || !bytes.Equal(b, late) {
			t.Fatalf("%d bytes after the half-close, %v", len(b), err)
		}
		if err := await(t, "end of the writer", sent); err != nil {
			t.Fatal(err)
		}
		// Both ended well: a late Reset changes nothing, and Close twice is one.
		first.Reset(Reset)
		for range 2 {
			if err := errors.Join(first.Close(), second.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n, m := client.opened, server.opened; n != 0 || m != 0 {
		t.Fatalf("%d and %d streams are counted as open", n, m)
	}
}

// yamux may end a stream without adit's end marker: that is a reset.
func TestEndWithoutMarker(t *testing.T) {
	client, server := newPair(t, nil)
	for _, inFrame := range []bool{false, true} {
		near, far := openPair(t, client, server)
		b := make([]byte, streamHeadroom+3)
		if inFrame {
			putFrame(b[yamuxHeader:], frameData, 10)
		} else {
			putFrame(b[yamuxHeader:], frameData, 3)
		}
		if err := near.writeRaw(b); err != nil {
			t.Fatal(err)
		}
		near.yamux.Close()
		got, err := io.ReadAll(far)
		if len(got) != 3 {
			t.Fatalf("%d bytes", len(got))
		}
		wantReset(t, "read", err, Reset, true)
		_, err = far.Write([]byte("x"))
		wantReset(t, "write", err, Reset, true)
		far.Close()
		near.Close()
	}
	// The same before there was a result.
	near, err := client.Open(t.Context(), anywhere)
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	far.yamux.Close()
	wantReset(t, "result", near.Result(), Reset, true)
	far.Close()
}

func TestReset(t *testing.T) {
	client, server := newPair(t, nil)
	for _, clientResets := range []bool{true, false} {
		near, far := openPair(t, client, server)
		a, b := near, far
		if !clientResets {
			a, b = far, near
		}
		if _, err := a.Write([]byte("before")); err != nil {
			t.Fatal(err)
		}
		blocked, _ := fill(t, b) // nobody reads at a
		reader := async(func() error {
			got, err := io.ReadAll(b)
			if string(got) != "before" {
				t.Errorf("%q came before the reset", got)
			}
			return err
		})
		gone := make(chan struct{})
		b.Watch(func() { close(gone) }, nil)
		a.Reset(Timeout)
		await(t, "call of gone", gone)
		wantReset(t, "blocked write at the other end", await(t, "end of the write", blocked), Timeout, true)
		wantReset(t, "blocked read at the other end", await(t, "end of the read", reader), Timeout, true)
		_, err := b.Write([]byte("x"))
		wantReset(t, "write at the other end", err, Timeout, true)
		wantReset(t, "end at the other end", b.CloseWrite(), Timeout, true)
		_, err = a.Read(make([]byte, 1)) // although a's buffer is full
		wantReset(t, "read here", err, Timeout, false)
		_, err = a.Write([]byte("x"))
		wantReset(t, "write here", err, Timeout, false)
		again := make(chan struct{})
		b.Watch(func() { close(again) }, nil)
		await(t, "call of gone for a stream that is gone", again)
		a.Close()
		b.Close()
	}
	eventually(t, "all that was unread is accounted for", func() bool {
		return client.adapter.unread.Load() == 0 && server.adapter.unread.Load() == 0
	})
}

// Close before both directions have ended is a reset, and data written before arrives.
func TestCloseIsReset(t *testing.T) {
	client, server := newPair(t, nil)
	near, far := openPair(t, client, server)
	if _, err := near.Write([]byte("before")); err != nil {
		t.Fatal(err)
	}
	near.Close()
	got, err := io.ReadAll(far)
	if string(got) != "before" {
		t.Fatalf("%q", got)
	}
	var reset *ResetError // yamux may be faster to tell than the control stream is
	if !errors.As(err, &reset) || !reset.Remote {
		t.Fatal(err)
	}
	far.Close()

	// With its end marker the direction has ended well, all the same.
	near, far = openPair(t, client, server)
	near.Write([]byte("before"))
	near.CloseWrite()
	near.Close()
	if got, err := io.ReadAll(far); string(got) != "before" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	_, err = far.Write([]byte("x"))
	for err == nil { // the reset may be on its way still
		_, err = far.Write([]byte("x"))
	}
	if reset = nil; !errors.As(err, &reset) || !reset.Remote {
		t.Fatal(err)
	}
	far.Close()
}

func TestRefused(t *testing.T) {
	client, server := newPair(t, nil)
	for _, code := range []Code{Refused, Unreachable, Timeout, NotFound, Forbidden, Busy, Failed, GoingAway, 77} {
		for _, reason := range []string{"", "because of " + code.String()} {
			near, err := client.Open(t.Context(), anywhere)
			if err != nil {
				t.Fatal(err)
			}
			far, err := server.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := far.ReadTarget(); err != nil {
				t.Fatal(err)
			}
			blocked, _ := fill(t, near)
			gone := make(chan struct{})
			near.Watch(func() { close(gone) }, nil)
			if err := far.Refuse(code, reason); err != nil {
				var refused *RefusedError
				if !errors.As(err, &refused) {
					t.Fatal(err)
				}
			}
			far.Close()
			_, readErr := near.Read(make([]byte, 1))
			for what, err := range map[string]error{
				"read": readErr, "result": near.Result(), "wait": near.WaitReadable(), "blocked write": await(t, "end of the write", blocked),
			} {
				var refused *RefusedError
				if !errors.As(err, &refused) || refused.Code != code || refused.Reason != reason {
					t.Fatalf("%s: %v; want code %v and reason %q", what, err, code, reason)
				}
				if reason != "" && !strings.Contains(err.Error(), reason) {
					t.Fatalf("%q does not say %q", err, reason)
				}
			}
			await(t, "call of gone", gone)
			near.Close()
		}
	}
}

func TestOpenRefusesBadTargets(t *testing.T) {
	client, _ := newPair(t, nil)
	for _, target := range []Target{{}, {TCP, ""}, {9, "a"}, {TCP, "a\nb"}, {TCP, strings.Repeat("a", MaxAddress+1)}} {
		if _, err := client.Open(t.Context(), target); err == nil {
			t.Errorf("%v was sent", target)
		}
	}
	if n := client.yamux.NumStreams(); n != 1 {
		t.Errorf("%d yamux streams, the control stream alone is needed", n)
	}
}

// A peer that opens a stream and sends no target is given up after OpenTimeout.
func TestHeaderNeverArrives(t *testing.T) {
	client, server := newPair(t, &Config{OpenTimeout: 50 * time.Millisecond})
	ys, err := client.yamux.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.adapter.writeData(ys.StreamID(), append(make([]byte, yamuxHeader), openVersion, byte(TCP), 0), nil); err != nil {
		t.Fatal(err)
	}
	far, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	err = await(t, "end of ReadTarget", async(func() error { _, err := far.ReadTarget(); return err }))
	if err == nil || errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	far.Close()
	near, far := openPair(t, client, server) // the session lives
	near.Close()
	far.Close()
	ys.Close()
}

// ReadTarget does not wait on a stream that was reset.
func TestResetBeforeTarget(t *testing.T) {
	client, server := newPair(t, &Config{OpenTimeout: time.Hour})
	near, err := client.Open(t.Context(), anywhere)
	if err != nil {
		t.Fatal(err)
	}
	far, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := far.ReadTarget(); err != nil {
		t.Fatal(err)
	}
	near.Reset(Cancelled)
	await(t, "end of the far stream", far.done)
	_, err = far.ReadTarget()
	wantReset(t, "ReadTarget", err, Cancelled, true)
	near.Close()
	far.Close()
}

// The blocked function of Watch is called while a Write waits, and may end it.
func TestWatchBlocked(t *testing.T) {
	client, server := newPair(t, nil)
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	stop := errors.New("stop")
	near.Watch(nil, func() error { return stop })
	blocked, _ := fill(t, near)
	if err := await(t, "end of the write", blocked); err != stop {
		t.Fatal(err)
	}
}

func TestOpenContext(t *testing.T) {
	client, server := newPair(t, nil)
	ctx, cancel := context.WithCancelCause(context.Background())
	reason := errors.New("no longer wanted")
	cancel(reason)
	for range 50 {
		st, err := client.Open(ctx, anywhere)
		if err == nil {
			st.Close()
		} else if err != reason {
			t.Fatal(err)
		}
	}
	go func() {
		for {
			st, err := server.Accept()
			if err != nil {
				return
			}
			st.ReadTarget()
			st.Close()
		}
	}()
	eventually(t, "no stream is left", func() bool {
		return client.NumStreams() == 0 && client.yamux.NumStreams() == 1 && server.yamux.NumStreams() == 1
	})
}

// A write of any size arrives whole, through a window that is much smaller.
func TestWriteSizes(t *testing.T) {
	client, server := newPair(t, &Config{InitialCredit: 8 << 10, MaxWindow: 8 << 10})
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	sizes := []int{0, 1, 2, frameHeader, 4095, 8<<10 - frameHeader, 8 << 10, MaxFrame - 1, MaxFrame, MaxFrame + 1, 1 << 20}
	var want []byte
	for i, n := range sizes {
		want = append(want, randomBytes(uint64(i), n)...)
	}
	sent := async(func() error {
		for i, n := range sizes {
			p := randomBytes(uint64(i), n)
			var m int
			var err error
			if i%2 == 0 {
				m, err = near.Write(p)
			} else {
				m, err = near.WriteBuffer(append(make([]byte, near.Headroom()), p...))
			}
			if m != n || err != nil {
				return errors.Join(err, errors.New("short write"))
			}
		}
		return near.CloseWrite()
	})
	if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes of %d: %v", len(got), len(want), err)
	}
	if err := await(t, "end of the writer", sent); err != nil {
		t.Fatal(err)
	}
}

// WriteFrom writes what it was given, uses no credit for what it was not given, and
// does not read bytes that would have to wait for the peer.
func TestWriteFrom(t *testing.T) {
	const window = MaxFrame + frameHeader
	client, server := newPair(t, &Config{InitialCredit: window, MaxWindow: window})
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	near.core.frameSize = func() int { return MaxFrame } // as on a fast path
	give := func(p []byte, err error) (int, error, error) {
		return near.WriteFrom(func(size int) (*tunnel.Buffer, int, error) {
			if size < tunnel.WorthOwning || size > tunnel.BufferSize {
				t.Errorf("asked for %d bytes", size)
			}
			if len(p) == 0 {
				return nil, 0, err
			}
			b := tunnel.NewBuffer()
			return b, copy(b.Bytes[tunnel.BufferHeadroom:][:size], p), err
		})
	}
	for range 100 {
		if n, readErr, writeErr := give(nil, nil); n != 0 || readErr != nil || writeErr != nil {
			t.Fatal(n, readErr, writeErr)
		}
	}
	if got := near.credit.bytes.Load(); got != window {
		t.Fatalf("a credit of %d after nothing was written", got)
	}
	for i, size := range []int{1, link.Small + 1, tunnel.WorthOwning, tunnel.BufferSize} {
		want, arrive := randomBytes(uint64(i), size), []byte(nil)
		eventually(t, "credit", func() bool {
			n, readErr, writeErr := give(want, io.EOF)
			if n > 0 && readErr != io.EOF || writeErr != nil {
				t.Fatal(n, readErr, writeErr)
			}
			arrive = want[:n]
			return n > 0
		})
		got := make([]byte, len(arrive))
		if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, arrive) {
			t.Fatalf("%d bytes do not arrive: %v", len(arrive), err)
		}
	}
	written, _ := fill(t, near)
	n, readErr, writeErr := near.WriteFrom(func(int) (*tunnel.Buffer, int, error) {
		t.Error("reads what the peer does not take")
		return nil, 0, nil
	})
	if n != 0 || readErr != nil || writeErr != nil {
		t.Fatal(n, readErr, writeErr)
	}
	far.Reset(Cancelled)
	if err := await(t, "end of the writer", written); err == nil {
		t.Fatal("a write to a stream that was reset went well")
	}
	near.credit.bytes.Store(window)
	_, _, writeErr = give([]byte("late"), nil)
	wantReset(t, "WriteFrom", writeErr, Cancelled, true)
}

// Close unblocks a Read of another goroutine, and does not wait for it. A Read after
// Close returns the reason for the end.
func TestCloseUnblocksRead(t *testing.T) {
	client, server := newPair(t, nil)
	for range 50 {
		near, far := openPair(t, client, server)
		go far.Write(make([]byte, 40<<10))
		reader := async(func() error { _, err := io.Copy(io.Discard, near); return err })
		near.Close()
		wantReset(t, "read", await(t, "end of the read", reader), Cancelled, false)
		_, err := near.Read(make([]byte, 1))
		wantReset(t, "read after Close", err, Cancelled, false)
		far.Close()
	}
	near, far := openPair(t, client, server)
	near.Reset(Failed)
	await(t, "end of the far stream", far.done)
	far.Close()
	_, err := far.Read(make([]byte, 1))
	wantReset(t, "read after Close", err, Failed, true)
	near.Close()
	near, far = openPair(t, client, server)
	near.CloseWrite()
	far.CloseWrite()
	for _, st := range []*Stream{near, far} {
		io.ReadAll(st)
		st.Close()
		if _, err := st.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read after a good end: %v", err)
		}
	}
}

// WriteFrom reads bulk data or nothing, also if the frame size falls or credit is
// revoked while it waits.
func TestWriteFromWhileFramesShrink(t *testing.T) {
	client, server := newPair(t, &Config{InitialCredit: 100 << 10})
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	var size atomic.Int64
	size.Store(MaxFrame)
	near.core.frameSize = func() int { return int(size.Load()) }
	before := near.credit.bytes.Load()
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		for range 100_000 {
			size.Store(MaxFrame)
			back := near.credit.takeUnused(40 << 10)
			size.Store(MaxFrame / 16)
			near.credit.add(uint32(back))
		}
	}()
	for !closed(changed) {
		n, readErr, writeErr := near.WriteFrom(func(size int) (*tunnel.Buffer, int, error) {
			if size < tunnel.WorthOwning {
				t.Errorf("asked for %d bytes", size)
			}
			return nil, 0, nil
		})
		if n != 0 || readErr != nil || writeErr != nil {
			t.Fatal(n, readErr, writeErr)
		}
	}
	if c := near.credit.bytes.Load(); c != before {
		t.Errorf("of a credit of %d bytes %d are left after nothing was written", before, c)
	}
}

// WriteFrom reads nothing after CloseWrite.
func TestWriteFromAfterEnd(t *testing.T) {
	client, server := newPair(t, &Config{InitialCredit: MaxFrame + frameHeader, MaxWindow: MaxFrame + frameHeader})
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	near.core.frameSize = func() int { return MaxFrame } // as on a fast path
	if err := near.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	n, readErr, writeErr := near.WriteFrom(func(int) (*tunnel.Buffer, int, error) {
		t.Error("reads what cannot be written")
		return nil, 0, nil
	})
	if n != 0 || readErr != nil || writeErr != errWriteAfterEnd {
		t.Fatal(n, readErr, writeErr)
	}
}
