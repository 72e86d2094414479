//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

// A flow sends numbered chunks of noise through one connection, and checks at the other end that they
// arrive in order. The last chunk is marked, so that the connection stays open for the next flow.
type flow struct {
	from, to net.Conn
	received atomic.Int64
	most     int64         // bytes in flight
	progress chan struct{} // buffered; gets a value after each read
}

const (
	chunkSize = 64 << 10
	stampSize = 8
	lastChunk = 1 << 63
)

// noise is one chunk of incompressible data.
var noise = func() []byte {
	b := make([]byte, chunkSize)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(b)
	return b
}()

// send sends chunks until stop is set.
func (f *flow) send(stop *atomic.Bool) error {
	chunk := append([]byte(nil), noise...)
	for number := uint64(0); ; number++ {
		last := stop.Load()
		stamp := number
		for int64(number+1)*chunkSize-f.received.Load() > f.most && !last {
			if _, more := <-f.progress; !more {
				return nil // the receiver has the error
			}
			last = stop.Load()
		}
		if last {
			stamp |= lastChunk
		}
		binary.BigEndian.PutUint64(chunk, stamp)
		if _, err := f.from.Write(chunk); err != nil {
			return fmt.Errorf("send chunk %d: %w", number, err)
		}
		if last {
			return nil
		}
	}
}

// receive reads and checks chunks until the marked one, into a buffer of so many bytes.
func (f *flow) receive(buffer int) error {
	var (
		buf     = make([]byte, buffer)
		stamp   [stampSize]byte
		number  uint64 // of the current chunk
		at      int    // bytes of it received
		atLast  bool
		endings = noise[chunkSize-1]
	)
	defer close(f.progress)
	for {
		n, err := f.to.Read(buf)
		f.received.Add(int64(n))
		select {
		case f.progress <- struct{}{}:
		default:
		}
		for b := buf[:n]; len(b) > 0; {
			if atLast && at == 0 {
				return fmt.Errorf("%d bytes more than were sent", len(b))
			}
			if at < stampSize {
				k := copy(stamp[at:], b)
				at, b = at+k, b[k:]
				if at < stampSize {
					continue
				}
				got := binary.BigEndian.Uint64(stamp[:])
				atLast = got&lastChunk != 0
				if got&^lastChunk != number {
					return fmt.Errorf("chunk %d begins with %x: bytes were lost or garbled", number, stamp)
				}
			}
			k := min(chunkSize-at, len(b))
			at += k
			if at == chunkSize {
				if b[k-1] != endings {
					return fmt.Errorf("chunk %d ends with %x: bytes were garbled", number, b[k-1])
				}
				number, at = number+1, 0
			}
			b = b[k:]
		}
		if atLast && at == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive chunk %d: %w", number, err)
		}
	}
}
