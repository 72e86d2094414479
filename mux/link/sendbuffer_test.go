package link

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"adit/tunnel"
)

// bufferContents is the expected state of a sendBuffer: all bytes ever appended, and
// two offsets.
type bufferContents struct {
	all         []byte
	acked, sent int
}

// bufferPlay applies operations to a sendBuffer and to the expected state, and compares
// them after each.
type bufferPlay struct {
	t          testing.TB
	sendBuffer sendBuffer
	model      bufferContents
	taken      *span
	want       []byte // the taken span's bytes
	front      []byte // and what was before them
	next       byte
}

func (p *bufferPlay) append(n int) {
	b := make([]byte, n)
	for i := range b {
		b[i] = p.next
		p.next = p.next*5 + 1
	}
	got := p.sendBuffer.append(b)
	if n > 0 && got == 0 || got > n {
		p.t.Fatalf("append of %d took %d", n, got)
	}
	p.model.all = append(p.model.all, b[:got]...)
	p.next = 0
	if len(p.model.all) > 0 {
		p.next = p.model.all[len(p.model.all)-1]*5 + 1
	}
}

func (p *bufferPlay) appendOwned(n int) {
	b := tunnel.NewBuffer()
	n = max(n, 1)
	for i := range n {
		b.Bytes[chunkHeadroom+i] = p.next
		p.next = p.next*5 + 1
	}
	p.model.all = append(p.model.all, b.Bytes[chunkHeadroom:chunkHeadroom+n]...)
	p.sendBuffer.appendOwned(b, chunkHeadroom, chunkHeadroom+n)
}

func (p *bufferPlay) take(head int) {
	if p.taken != nil || p.model.sent == len(p.model.all) {
		return
	}
	most := 1 + len(p.model.all)*41%tunnel.BufferSize
	s := p.sendBuffer.take(most)
	p.front = bytes.Clone(s.chunk.buf[:s.from])
	b := s.head(head)
	if len(b) != head {
		p.t.Fatalf("head of %d bytes, not %d", len(b), head)
	}
	for i := range b {
		b[i] = 0xee
	}
	got := s.bytes()[head:]
	to := p.model.sent + len(got)
	if len(got) == 0 || len(got) > most || to > len(p.model.all) {
		p.t.Fatalf("a span of %d bytes from %d, of %d", len(got), p.model.sent, len(p.model.all))
	}
	p.want = bytes.Clone(p.model.all[p.model.sent:to])
	if !bytes.Equal(got, p.want) {
		p.t.Fatalf("the span from %d has other bytes", p.model.sent)
	}
	p.model.sent = to
	p.taken = &s
}

func (p *bufferPlay) release() {
	if p.taken == nil {
		return
	}
	s := *p.taken
	buf := s.chunk.buf
	if got := s.bytes()[s.headLen:]; !bytes.Equal(got, p.want) {
		p.t.Fatal("the span's bytes changed while it was taken")
	}
	p.sendBuffer.release(s)
	if !bytes.Equal(buf[:s.from], p.front) {
		p.t.Fatal("the bytes before the span are not restored")
	}
	p.taken = nil
}

func (p *bufferPlay) acknowledge(part int) {
	to := p.model.acked + (p.model.sent-p.model.acked)*part/255
	p.sendBuffer.acknowledge(uint64(to))
	p.model.acked = to
}

func (p *bufferPlay) rewind(part int) {
	to := p.model.acked + (p.model.sent-p.model.acked)*part/255
	p.sendBuffer.rewind(uint64(to))
	p.model.sent = to
}

func (p *bufferPlay) check() {
	r, m := &p.sendBuffer, &p.model
	if r.unsent() != len(m.all)-m.sent || r.held() != len(m.all)-m.acked || r.acked != uint64(m.acked) {
		p.t.Fatalf("unsent %d, held %d, acked %d; want %d, %d, %d", r.unsent(), r.held(), r.acked, len(m.all)-m.sent, len(m.all)-m.acked, m.acked)
	}
	// No more memory than the bytes need: a chunk more at each end, and before
	// each owned buffer.
	most, memory := r.held()/chunkSize+2, 0
	for _, c := range r.chunks {
		memory += len(c.buf)
		if c.owned != nil {
			most += 2
		}
	}
	if n := len(r.chunks); r.held() == 0 && n != 0 || n > most || r.memory != memory {
		p.t.Fatalf("%d chunks of %d bytes for %d bytes, memory of %d", n, memory, r.held(), r.memory)
	}
	for _, c := range r.chunks[len(r.chunks):cap(r.chunks)] {
		if c != nil {
			p.t.Fatal("a chunk that is not in use is not let go")
		}
	}
}

// finish sends everything again and acknowledges it.
func (p *bufferPlay) finish() {
	p.release()
	p.rewind(0)
	for p.sendBuffer.unsent() > 0 {
		p.take(chunkHeadroom)
		p.release()
		p.check()
	}
	p.acknowledge(255)
	p.check()
}

// step does one operation; a and b are its parameters.
func (p *bufferPlay) step(op, a, b byte) {
	switch op % 9 {
	case 0, 1:
		p.append(int(a)<<8 | int(b))
	case 2:
		p.append(int(a))
	case 3, 4:
		p.take(int(a) % (chunkHeadroom + 1))
	case 5:
		p.release()
	case 6:
		p.acknowledge(int(a))
	case 7:
		// A span that is being written is not sent a second time.
		p.release()
		p.rewind(int(a))
	case 8:
		p.appendOwned(int(a)<<8 | int(b))
	}
	p.check()
}

func TestSendBufferModel(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			p := &bufferPlay{t: t}
			for range 300 {
				p.step(byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32()))
			}
			p.finish()
		})
	}
}

func FuzzSendBuffer(f *testing.F) {
	f.Add([]byte{0, 0, 0})
	f.Add([]byte{0, 255, 255, 3, 32, 0, 6, 255, 0, 5, 0, 0})
	f.Add([]byte{2, 9, 0, 3, 23, 0, 2, 9, 0, 6, 255, 0, 5, 0, 0, 3, 23, 0, 7, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		p := &bufferPlay{t: t}
		for len(ops) >= 3 && len(p.model.all) < 4<<20 {
			p.step(ops[0], ops[1], ops[2])
			ops = ops[3:]
		}
		p.finish()
	})
}

// A chunk whose bytes are all acknowledged while a message is being written
// from it must not be filled again before that is done.
func TestSendBufferAcknowledgeWhileTaken(t *testing.T) {
	p := &bufferPlay{t: t}
	p.append(chunkSize)
	p.take(23)
	p.acknowledge(255)
	busy := p.taken.chunk
	for range 8 {
		p.append(chunkSize)
		for _, c := range p.sendBuffer.chunks {
			if c == busy {
				t.Fatal("a chunk is used again while a span of it is taken")
			}
		}
	}
	p.release()
	p.finish()
}

// The header of the second message overwrites bytes of the first, which a rewind needs
// again.
func TestSendBufferHeadOverSentBytes(t *testing.T) {
	p := &bufferPlay{t: t}
	p.append(100)
	p.take(32)
	p.release()
	p.append(100)
	p.take(32)
	p.release()
	p.rewind(0)
	p.take(0)
	if len(p.want) != 200 {
		t.Fatalf("%d bytes are sent again, not 200", len(p.want))
	}
	p.finish()
}
