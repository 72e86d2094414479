package ws

import (
	"fmt"
	"io"
	"net"
	"testing"
)

// sink reads and discards until the connection ends, without allocating.
func sink(nc net.Conn) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		p := make([]byte, 256<<10)
		for {
			if _, err := nc.Read(p); err != nil {
				return
			}
		}
	}()
	return done
}

// repeat writes b until the connection ends, without allocating.
func repeat(nc net.Conn, b []byte) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := nc.Write(b); err != nil {
				return
			}
		}
	}()
	return done
}

// readMessage reads one message, with NextMessage and Read until io.EOF.
func readMessage(c *Conn, p []byte) error {
	if _, err := c.NextMessage(); err != nil {
		return err
	}
	for {
		if _, err := c.Read(p); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// Reading and writing a message allocates nothing.
func TestNoAllocations(t *testing.T) {
	for _, s := range bothSides {
		for _, size := range []int{100, 64 << 10} {
			t.Run(fmt.Sprintf("%s/WriteBuffer/%d", s.name, size), func(t *testing.T) {
				raw, c := s.start(t, Options{})
				done := sink(raw)
				b := make([]byte, c.Headroom()+size)
				if n := testing.AllocsPerRun(500, func() {
					if err := c.WriteBuffer(OpBinary, b); err != nil {
						t.Error(err)
					}
				}); n != 0 {
					t.Errorf("%v allocations per message", n)
				}
				c.CloseNow()
				<-done
			})
			t.Run(fmt.Sprintf("%s/Read/%d", s.name, size), func(t *testing.T) {
				raw, c := s.start(t, Options{ValidateUTF8: true})
				var b []byte
				for range 1 + 10000/size {
					b = append(b, makeFrame(fin|text, make([]byte, size), !s.client)...)
				}
				done := repeat(raw, b)
				p := make([]byte, 64<<10)
				if n := testing.AllocsPerRun(500, func() {
					if err := readMessage(c, p); err != nil {
						t.Error(err)
					}
				}); n != 0 {
					t.Errorf("%v allocations per message", n)
				}
				c.CloseNow()
				<-done
			})
		}
	}
}

var benchSizes = []int{64, 4 << 10, 64 << 10, 256 << 10}

func BenchmarkWriteBuffer(b *testing.B) {
	for _, s := range bothSides {
		for _, size := range benchSizes {
			b.Run(fmt.Sprintf("%s/%d", s.name, size), func(b *testing.B) {
				raw, c := s.start(b, Options{})
				done := sink(raw)
				buf := make([]byte, c.Headroom()+size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if err := c.WriteBuffer(OpBinary, buf); err != nil {
						b.Fatal(err)
					}
				}
				c.CloseNow()
				<-done
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	for _, s := range bothSides {
		for _, size := range benchSizes {
			b.Run(fmt.Sprintf("%s/%d", s.name, size), func(b *testing.B) {
				raw, c := s.start(b, Options{})
				var frames []byte
				for range 1 + 128<<10/size {
					frames = append(frames, makeFrame(fin|bin, make([]byte, size), !s.client)...)
				}
				done := repeat(raw, frames)
				p := make([]byte, 256<<10)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if err := readMessage(c, p); err != nil {
						b.Fatal(err)
					}
				}
				c.CloseNow()
				<-done
			})
		}
	}
}

func BenchmarkMask(b *testing.B) {
	p := make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		maskBytes(0x12345678, p)
	}
}

func BenchmarkUTF8(b *testing.B) {
	for name, s := range map[string]string{"ascii": "0123456789abcdef", "greek": "κόσμε λόγος"} {
		b.Run(name, func(b *testing.B) {
			var p []byte
			for len(p) < 64<<10 {
				p = append(p, s...)
			}
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				var u utf8Checker
				if !u.write(p) {
					b.Fatal("not valid")
				}
			}
		})
	}
}
