package link

import "testing"

// BenchmarkSendBuffer passes 64 KiB through the send buffer: in, out as a
// message with a header before it, acknowledged.
func BenchmarkSendBuffer(b *testing.B) {
	var r sendBuffer
	p := make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for range b.N {
		for q := p; len(q) > 0; {
			q = q[r.append(q):]
		}
		for r.unsent() > 0 {
			s := r.take(1 << 20)
			s.head(23)
			r.release(s)
		}
		r.acknowledge(r.sent)
	}
}

// BenchmarkSendBufferSmall passes 16 bytes, as a keystroke does.
func BenchmarkSendBufferSmall(b *testing.B) {
	var r sendBuffer
	p := make([]byte, 16)
	b.ReportAllocs()
	for range b.N {
		r.append(p)
		s := r.take(1 << 20)
		s.head(23)
		r.release(s)
		r.acknowledge(r.sent)
	}
}
