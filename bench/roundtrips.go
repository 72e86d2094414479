//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// roundTrips sends bytes for d, each after the one before has come back, and returns how long each
// took.
func roundTrips(ctx context.Context, conn net.Conn, d time.Duration) ([]time.Duration, error) {
	var (
		took []time.Duration
		b    = make([]byte, 1)
	)
	for end := time.Now().Add(d); ctx.Err() == nil && time.Now().Before(end); {
		sent := byte(len(took))
		b[0] = sent
		start := time.Now()
		if _, err := conn.Write(b); err != nil {
			return nil, fmt.Errorf("send a byte: %w", err)
		}
		if _, err := io.ReadFull(conn, b); err != nil {
			return nil, fmt.Errorf("wait for a byte: %w", err)
		}
		took = append(took, time.Since(start))
		if b[0] != sent {
			return nil, fmt.Errorf("the byte %#x came back as %#x", sent, b[0])
		}
	}
	return took, ctx.Err()
}

// keyInterval is the time between two keystrokes. They do not wait for answers, so that a tunnel that
// stalls does not get fewer of them meanwhile.
const keyInterval = 5 * time.Millisecond

// keystrokes sends a byte every keyInterval for d and returns how long each took there and back.
func keystrokes(ctx context.Context, conn net.Conn, d time.Duration) ([]time.Duration, error) {
	n := max(int(d/keyInterval), 1)
	var (
		sent    = make([]atomic.Int64, n)
		took    = make([]time.Duration, 0, n)
		start   = time.Now()
		reading sync.WaitGroup
		readErr error
	)
	reading.Go(func() {
		buf := make([]byte, echoBuffer)
		for len(took) < n {
			k, err := conn.Read(buf)
			now := time.Since(start)
			for _, b := range buf[:k] {
				if len(took) == n || b != byte(len(took)) {
					readErr = fmt.Errorf("the byte %#x came back as %#x", byte(len(took)), b)
					return
				}
				took = append(took, now-time.Duration(sent[len(took)].Load()))
			}
			if err != nil && len(took) < n {
				readErr = fmt.Errorf("wait for a byte: %w", err)
				return
			}
		}
	})
	err := func() error {
		tick := time.NewTicker(keyInterval)
		defer tick.Stop()
		for i := range n {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return ctx.Err()
			}
			sent[i].Store(int64(time.Since(start)))
			if _, err := conn.Write([]byte{byte(i)}); err != nil {
				return fmt.Errorf("send a byte: %w", err)
			}
		}
		return nil
	}()
	if err != nil {
		conn.Close()
	}
	reading.Wait()
	if err := errors.Join(err, readErr); err != nil {
		return nil, err
	}
	return took, nil
}

// percentile returns the value below which the share q of all lies, 0 if there are none.
func percentile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
