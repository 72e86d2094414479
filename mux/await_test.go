package mux

import (
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"adit/tunnel"
)

// Await calls its function once, when there is something to read or the stream has ended.
func TestStreamAwait(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(client *Session, far *Stream)
		want    error // of Read then; nil: data
	}{
		"data":  {func(_ *Session, far *Stream) { far.Write([]byte("x")) }, nil},
		"end":   {func(_ *Session, far *Stream) { far.CloseWrite() }, io.EOF},
		"reset": {func(_ *Session, far *Stream) { far.Abort() }, &ResetError{Code: Reset, Remote: true}},
		"loss":  {func(client *Session, _ *Stream) { client.Close() }, ErrSessionLost},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := newPair(t, nil)
			near, far := openPair(t, client, server)
			if err := near.Result(); err != nil {
				t.Fatal(err)
			}
			called := make(chan struct{}, 2)
			ready := func() { called <- struct{}{} }
			if !near.Await(ready) {
				t.Fatal("there is something to read already")
			}
			select {
			case <-called:
				t.Fatal("called with nothing to read")
			case <-time.After(10 * time.Millisecond):
			}
			c.happens(client, far)
			await(t, "call", called)
			if near.Await(ready) {
				t.Fatal("nothing to read after the call")
			}
			_, err := near.Read(make([]byte, 1))
			var reset, want *ResetError
			switch {
			case errors.As(c.want, &want):
				if !errors.As(err, &reset) || *reset != *want {
					t.Fatal(err)
				}
			case !errors.Is(err, c.want):
				t.Fatal(err)
			}
			if len(called) != 0 {
				t.Fatal("called twice")
			}
		})
	}
}

// An idle relay has one goroutine, which waits for its socket, however many bytes
// it has passed on before.
func TestIdleRelayGoroutines(t *testing.T) {
	client, server := newPair(t, nil)
	const relays = 50
	before := runtime.NumGoroutine()
	for range relays {
		near, far := openPair(t, client, server)
		app, local := socketPair(t, "tcp")
		done := make(chan struct{})
		go func() {
			defer close(done)
			tunnel.Relay(tunnel.NewSocket(local), near)
		}()
		t.Cleanup(func() {
			app.Close()
			far.Close()
			<-done
		})
		far.Write([]byte("x"))
		if _, err := io.ReadFull(app, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "one goroutine for each relay", func() bool {
		return runtime.NumGoroutine() <= before+relays
	})
}
