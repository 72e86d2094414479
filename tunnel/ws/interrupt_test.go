package ws

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

// Interrupt unblocks a reader and a writer, and afterwards only closing works.
func TestInterrupt(t *testing.T) {
	for _, s := range bothSides {
		t.Run(s.name, func(t *testing.T) {
			raw, c, writing := stuffed(t, s, Options{CloseTimeout: watchdog})
			reading := make(chan error, 1)
			go func() {
				_, err := c.NextMessage()
				reading <- err
			}()
			c.Interrupt()
			for _, done := range []chan error{reading, writing} {
				select {
				case err := <-done:
					if !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error(err)
					}
				case <-time.After(watchdog):
					t.Fatal("still blocked")
				}
			}
			c.StopReadingAfter(watchdog) // does not undo Interrupt
			if _, err := c.NextMessage(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
			if err := c.WriteMessage(OpBinary, nil); err == nil {
				t.Error("written after Interrupt")
			}
			start := time.Now()
			if err := c.Close(StatusNormal, ""); err != nil || time.Since(start) > watchdog/2 {
				t.Errorf("Close: %v after %v", err, time.Since(start))
			}
			raw.SetReadDeadline(time.Now().Add(watchdog))
			if _, err := io.Copy(io.Discard, raw); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("Close has left the connection open")
			}
		})
	}
}

// Interrupt ends a Close that waits for the peer.
func TestInterruptClose(t *testing.T) {
	_, c := bothSides[0].start(t, Options{CloseTimeout: watchdog})
	closed := make(chan error, 1)
	go func() { closed <- c.Close(StatusNormal, "") }()
	time.Sleep(20 * time.Millisecond)
	c.Interrupt()
	select {
	case <-closed:
	case <-time.After(watchdog / 2):
		t.Fatal("Close still waits for the peer")
	}
}

func TestStopReadingAfter(t *testing.T) {
	raw, c := bothSides[0].start(t, Options{})
	c.StopReadingAfter(100 * time.Millisecond)
	raw.Write(makeFrame(0x80|byte(OpBinary), []byte("x"), true))
	if _, err := c.NextMessage(); err != nil {
		t.Fatalf("before the time: %v", err)
	}
	for {
		if _, err := c.NextMessage(); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := c.WriteMessage(OpBinary, nil); err != nil {
		t.Errorf("writing is bounded, too: %v", err)
	}
}

// StopWritingAfter unblocks a writer, and does not affect reading.
func TestStopWritingAfter(t *testing.T) {
	raw, c, writing := stuffed(t, bothSides[0], Options{})
	c.StopWritingAfter(50 * time.Millisecond)
	select {
	case err := <-writing:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(watchdog):
		t.Fatal("still blocked")
	}
	raw.Write(makeFrame(0x80|byte(OpBinary), []byte("x"), true))
	if _, err := c.NextMessage(); err != nil {
		t.Error(err)
	}
}
