//go:build !race

package link

import (
	"testing"

	"adit/tunnel"
)

// The send buffer allocates nothing for the bytes that pass through it.
func TestSendBufferAllocations(t *testing.T) {
	var r sendBuffer
	p := make([]byte, 100)
	if n := testing.AllocsPerRun(1000, func() {
		r.append(p)
		r.appendOwned(tunnel.NewBuffer(), chunkHeadroom, chunkHeadroom+tunnel.BufferSize)
		for r.unsent() > 0 {
			s := r.take(1 << 20)
			s.head(chunkHeadroom)
			r.release(s)
		}
		r.acknowledge(r.sent)
	}); n >= 1 {
		t.Errorf("%v allocations", n)
	}
}
