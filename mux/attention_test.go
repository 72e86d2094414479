package mux

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"
)

// A link expects an answer after a frame with little in it, for a while, and not after
// much.
func TestAttention(t *testing.T) {
	var a attention
	a.init()
	var sent, got time.Duration // when much has
	if a.expectant() || a.typing() {
		t.Error("expectant before the first frame")
	}
	a.passed(3, urgent+1, true, &sent)
	if a.expectant() || a.typing() {
		t.Error("expectant after much")
	}
	a.passed(3, 1, true, &sent)
	if a.expectant() || a.typing() {
		t.Error("expectant after the end of much")
	}
	for _, wait := range []func(){
		func() { a.passed(3, 1, false, &got) }, // much has been sent, not received
		func() { a.start = a.start.Add(-tailFor); a.passed(3, 1, true, &sent) },
	} {
		a.little.Store(0)
		if wait(); !a.typing() {
			t.Error("nobody at a keyboard after little")
		}
	}
	a.start = a.start.Add(time.Hour) // the clock has not begun yet
	a.passedLittle(1, 3, true)
	if !a.expectant() || !a.typing() {
		t.Error("not expectant after little")
	}
	a.start = a.start.Add(-time.Hour - 2*expectFor)
	if a.expectant() || !a.typing() {
		t.Error("expectant for longer than an answer takes, or nobody at a keyboard")
	}
	a.start = a.start.Add(-2 * typingFor)
	if a.typing() {
		t.Error("somebody at a keyboard for ever")
	}
}

// Only a stream that goes to and fro, alone and without a pause, keeps the process
// awake.
func TestAttentionToAndFro(t *testing.T) {
	const stream, other = 3, 5
	type frame struct {
		stream uint32
		sent   bool
		pause  time.Duration
	}
	for name, c := range map[string]struct {
		between []frame
		want    bool
	}{
		"alone":          {nil, true},
		"quickly":        {[]frame{{stream, true, busyFor}}, true},
		"with a pause":   {[]frame{{stream, true, busyFor + 1}}, false},
		"one way":        {[]frame{{stream, true, 1}, {stream, true, 1}}, false},
		"beside another": {[]frame{{other, true, 1}, {other, false, 1}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var a attention
			a.init()
			now, sent := time.Hour, false
			pass := func(f frame) {
				now, sent = now+f.pause, f.sent
				a.passedLittle(int64(now), f.stream, f.sent)
			}
			toAndFro := func() {
				for range busyAfter * 3 / 4 {
					pass(frame{stream, !sent, 1})
				}
			}
			toAndFro()
			for _, f := range c.between {
				pass(f)
			}
			toAndFro()
			if got := len(a.quick) > 0; got != c.want {
				t.Errorf("kept awake: %v, want %v", got, c.want)
			}
			a.passed(stream, urgent+1, true, new(time.Duration))
			if a.crossings.Load() > 0 {
				t.Error("kept awake beside much")
			}
		})
	}
}

// What goes to and fro within a machine keeps the processes awake, and no longer than
// it goes on.
func TestBusyPoll(t *testing.T) {
	if !canPoll {
		t.Skip("this system has no poller")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	client, server := newPair(t, nil)
	near, far := openPair(t, client, server)
	defer near.Close()
	defer far.Close()
	go io.Copy(far, far)
	before := BusyPolled()
	eventually(t, "the process to be kept awake", func() bool {
		for i := range 10 * busyAfter {
			sent, got := fmt.Appendf(nil, "%3d", i), make([]byte, 3)
			if _, err := near.Write(sent); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(near, got); err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("%q came back as %q: %v", sent, got, err)
			}
		}
		return BusyPolled() > before
	})
	for _, s := range []*Session{client, server} {
		eventually(t, "it to sleep again", func() bool { return s.link.attention.crossings.Load() < busyAfter })
	}
}
