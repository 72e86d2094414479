package ws

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// First bytes of frames.
const (
	fin   = 0x80
	text  = byte(OpText)
	bin   = byte(OpBinary)
	cont  = byte(opContinuation)
	closE = byte(opClose)
	ping  = byte(opPing)
	pong  = byte(opPong)
)

func TestFrames(t *testing.T) {
	type f struct {
		first   byte
		payload string
	}
	long := strings.Repeat("x", 126)
	tests := []struct {
		name   string
		frames []f
		want   []message
		end    int        // endOf the reader's error; 0 if the connection ends without a Close frame
		answer []rawFrame // the frames that we send before our Close frame
		reply  string     // the payload of our Close frame, if we send one
	}{
		{"text", []f{{fin | text, "hello"}}, []message{{OpText, "hello", true}}, 0, nil, ""},
		{"binary", []f{{fin | bin, "\xff\x00"}}, []message{{OpBinary, "\xff\x00", true}}, 0, nil, ""},
		{"empty", []f{{fin | text, ""}, {fin | bin, ""}}, []message{{OpText, "", true}, {OpBinary, "", true}}, 0, nil, ""},
		{"fragments", []f{{text, "a"}, {cont, ""}, {cont, "b"}, {fin | cont, "c"}, {fin | bin, "d"}},
			[]message{{OpText, "abc", true}, {OpBinary, "d", true}}, 0, nil, ""},
		{"empty fragments", []f{{bin, ""}, {cont, ""}, {fin | cont, ""}}, []message{{OpBinary, "", true}}, 0, nil, ""},
		{"message never ended", []f{{bin, "part"}}, []message{{OpBinary, "part", false}}, 0, nil, ""},

		{"pings in order", []f{{fin | ping, "1"}, {fin | ping, ""}, {fin | ping, long[:125]}}, nil, 0,
			[]rawFrame{{fin | pong, "1"}, {fin | pong, ""}, {fin | pong, long[:125]}}, ""},
		{"ping between fragments", []f{{text, "a"}, {fin | ping, "p"}, {cont, "b"}, {fin | ping, "q"}, {fin | cont, "c"}},
			[]message{{OpText, "abc", true}}, 0, []rawFrame{{fin | pong, "p"}, {fin | pong, "q"}}, ""},
		{"stray pong", []f{{fin | pong, "?"}, {fin | bin, "x"}}, []message{{OpBinary, "x", true}}, 0, nil, ""},

		{"rsv1", []f{{fin | 0x40 | bin, "x"}}, nil, -1002, nil, closeBody(1002, "")},
		{"rsv2", []f{{fin | 0x20 | bin, "x"}}, nil, -1002, nil, closeBody(1002, "")},
		{"rsv3", []f{{fin | 0x10 | bin, "x"}}, nil, -1002, nil, closeBody(1002, "")},
		{"rsv on control", []f{{fin | 0x40 | ping, "x"}}, nil, -1002, nil, closeBody(1002, "")},
		{"rsv after data", []f{{fin | bin, "ok"}, {fin | 0x70 | bin, "x"}}, []message{{OpBinary, "ok", true}}, -1002, nil, closeBody(1002, "")},
		{"opcode 3", []f{{fin | 3, ""}}, nil, -1002, nil, closeBody(1002, "")},
		{"opcode 7", []f{{fin | 7, "x"}}, nil, -1002, nil, closeBody(1002, "")},
		{"opcode 11", []f{{fin | 11, "x"}}, nil, -1002, nil, closeBody(1002, "")},
		{"opcode 15", []f{{fin | 15, ""}}, nil, -1002, nil, closeBody(1002, "")},
		{"long ping", []f{{fin | ping, long}}, nil, -1002, nil, closeBody(1002, "")},
		{"long close", []f{{fin | closE, long}}, nil, -1002, nil, closeBody(1002, "")},
		{"fragmented ping", []f{{ping, "a"}, {fin | cont, "b"}}, nil, -1002, nil, closeBody(1002, "")},
		{"fragmented close", []f{{closE, ""}}, nil, -1002, nil, closeBody(1002, "")},
		{"stray continuation", []f{{fin | cont, "x"}}, nil, -1002, nil, closeBody(1002, "")},
		{"stray continuation after message", []f{{fin | bin, "a"}, {cont, "x"}}, []message{{OpBinary, "a", true}}, -1002, nil, closeBody(1002, "")},
		{"text inside message", []f{{bin, "a"}, {fin | text, "x"}}, []message{{OpBinary, "a", false}}, -1002, nil, closeBody(1002, "")},
		{"binary inside message", []f{{text, "a"}, {bin, "x"}}, []message{{OpText, "a", false}}, -1002, nil, closeBody(1002, "")},
		{"ping then fault", []f{{fin | ping, "p"}, {fin | 5, ""}}, nil, -1002, []rawFrame{{fin | pong, "p"}}, closeBody(1002, "")},

		{"close", []f{{fin | closE, closeBody(1000, "bye")}}, nil, 1000, nil, closeBody(1000, "")},
		{"close empty", []f{{fin | closE, ""}}, nil, 1005, nil, ""},
		{"close after data", []f{{fin | bin, "last"}, {fin | closE, closeBody(1001, "")}}, []message{{OpBinary, "last", true}}, 1001, nil, closeBody(1001, "")},
		{"close inside message", []f{{text, "a"}, {fin | closE, closeBody(1000, "")}}, []message{{OpText, "a", false}}, 1000, nil, closeBody(1000, "")},
		{"close after ping", []f{{fin | ping, "p"}, {fin | closE, closeBody(1000, "")}}, nil, 1000, []rawFrame{{fin | pong, "p"}}, closeBody(1000, "")},
		{"nothing counts after close", []f{{fin | closE, closeBody(1000, "")}, {fin | bin, "x"}, {fin | ping, "x"}, {0x7f, "x"}, {fin | closE, ""}}, nil, 1000, nil, closeBody(1000, "")},
		{"close of one byte", []f{{fin | closE, "\x03"}}, nil, -1002, nil, closeBody(1002, "")},
		{"close with long reason", []f{{fin | closE, closeBody(1000, long[:123])}}, nil, 1000, nil, closeBody(1000, "")},
		{"close reason not UTF-8", []f{{fin | closE, closeBody(1000, "\xce\xba\xe1\xbd")}}, nil, -1007, nil, closeBody(1007, "")},
	}
	for _, s := range bothSides {
		for _, chop := range []bool{false, true} {
			for _, tt := range tests {
				t.Run(fmt.Sprintf("%s/chop=%v/%s", s.name, chop, tt.name), func(t *testing.T) {
					t.Parallel()
					raw, c := s.start(t, Options{})
					go func() {
						var all []byte
						for _, f := range tt.frames {
							all = append(all, s.frame(f.first, f.payload)...)
						}
						send(raw, all, chop)
						if tt.end == 0 {
							raw.CloseWrite()
						}
					}()
					type result struct {
						all []message
						err error
					}
					done := make(chan result, 1)
					go func() {
						all, err := readAll(c, 64)
						done <- result{all, err}
						c.Close(StatusNormal, "")
					}()
					for _, want := range tt.answer {
						if got := s.mustFrame(t, raw); got != want {
							t.Errorf("answer %q, want %q", got, want)
						}
					}
					got := <-done
					if fmt.Sprint(got.all) != fmt.Sprint(tt.want) {
						t.Errorf("read %v, want %v", got.all, tt.want)
					}
					if end := endOf(got.err); end != tt.end {
						t.Errorf("ended with %v, want %d", got.err, tt.end)
					}
					if tt.end == 0 && !errors.Is(got.err, io.ErrUnexpectedEOF) {
						t.Errorf("ended with %v, want an unexpected EOF", got.err)
					}
					last := s.mustFrame(t, raw)
					if last.first != fin|closE {
						t.Fatalf("last frame is %q, want a Close", last)
					}
					if tt.end < 0 && len(last.payload) > 2 {
						last.payload = last.payload[:2] // the reason is not compared
					}
					if tt.end != 0 && last.payload != tt.reply {
						t.Errorf("Close with %q, want %q", last.payload, tt.reply)
					}
					raw.CloseWrite()
					if rest, err := io.ReadAll(raw); err != nil || len(rest) > 0 {
						t.Errorf("after the Close: %q, %v", rest, err)
					}
				})
			}
		}
	}
}

// send writes b, byte by byte if chop is set. It ignores errors, because the other end may have closed.
func send(w io.Writer, b []byte, chop bool) {
	if !chop {
		w.Write(b)
		return
	}
	for i := range b {
		if _, err := w.Write(b[i : i+1]); err != nil {
			return
		}
	}
}

func TestCloseCodes(t *testing.T) {
	for _, s := range bothSides {
		for _, code := range []uint16{0, 1, 999, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1011, 1012, 1013, 1014, 1015, 1016, 1100, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 65535} {
			t.Run(fmt.Sprintf("%s/%d", s.name, code), func(t *testing.T) {
				t.Parallel()
				valid := code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
				raw, c := s.start(t, Options{})
				raw.Write(s.frame(fin|closE, closeBody(code, "why")))
				_, err := c.NextMessage()
				want, reply := int(code), code
				if !valid {
					want, reply = -1002, 1002
				}
				if endOf(err) != want {
					t.Errorf("got %v, want %d", err, want)
				}
				var closed *CloseError
				if valid && (!errors.As(err, &closed) || closed.Reason != "why") {
					t.Errorf("got %v, want the reason", err)
				}
				f := s.mustFrame(t, raw)
				if f.first != fin|closE || binary.BigEndian.Uint16([]byte(f.payload)) != reply {
					t.Errorf("answered %q, want code %d", f, reply)
				}
				if _, again := c.NextMessage(); again != err {
					t.Errorf("second error is %v, first was %v", again, err)
				}
			})
		}
	}
}

func TestMasking(t *testing.T) {
	t.Run("client refuses masked frames", func(t *testing.T) {
		raw, c := side{"client", true}.start(t, Options{})
		raw.Write(makeFrame(fin|bin, []byte("x"), true))
		if _, err := c.NextMessage(); endOf(err) != -1002 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("server refuses unmasked frames", func(t *testing.T) {
		raw, c := side{"server", false}.start(t, Options{})
		raw.Write(makeFrame(fin|ping, nil, false))
		if _, err := c.NextMessage(); endOf(err) != -1002 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("keys are random without TLS and zero with it", func(t *testing.T) {
		for _, secure := range []bool{false, true} {
			raw, nc := tcpPair(t)
			c := newConn(nc, nil, true, secure, Options{})
			defer c.CloseNow()
			seen := map[[4]byte]bool{}
			for range 8 {
				if err := c.WriteMessage(OpBinary, []byte("12345")); err != nil {
					t.Fatal(err)
				}
				var b [11]byte
				if _, err := io.ReadFull(raw, b[:]); err != nil {
					t.Fatal(err)
				}
				if b[1] != 0x80|5 {
					t.Fatalf("second byte is %#x", b[1])
				}
				seen[[4]byte(b[2:])] = true
			}
			if secure && (len(seen) != 1 || !seen[[4]byte{}]) {
				t.Errorf("keys under TLS: %v, want only zero", seen)
			}
			if !secure && len(seen) < 7 {
				t.Errorf("only %d different keys in 8 frames", len(seen))
			}
		}
	})
	t.Run("all offsets and lengths", func(t *testing.T) {
		src := make([]byte, 300)
		for i := range src {
			src[i] = byte(i * 7)
		}
		for n := range len(src) {
			for cut := 0; cut <= n; cut += 1 + n/9 {
				got := bytes.Clone(src[:n])
				key := uint32(0xd4c3b2a1)
				maskBytes(maskBytes(key, got[:cut]), got[cut:])
				for i := range got {
					if want := src[i] ^ []byte{0xa1, 0xb2, 0xc3, 0xd4}[i%4]; got[i] != want {
						t.Fatalf("length %d cut %d: byte %d is %#x, want %#x", n, cut, i, got[i], want)
					}
				}
			}
		}
	})
}

func TestSizes(t *testing.T) {
	sizes := []int{0, 1, 125, 126, 127, 128, 2048, 4095, 4096, 4097, 65535, 65536, 65537, 1 << 20}
	payload := make([]byte, 16<<20)
	for i := range payload {
		payload[i] = byte(i * 31 >> 3)
	}
	for _, s := range bothSides {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			peer := side{"peer", !s.client}
			for _, write := range []string{"WriteMessage", "WriteBuffer"} {
				raw, nc := tcpPair(t)
				from := newConn(raw, nil, peer.client, false, Options{})
				to := newConn(nc, nil, s.client, false, Options{})
				defer from.CloseNow()
				defer to.CloseNow()
				go func() {
					for _, n := range sizes {
						if write == "WriteMessage" {
							from.WriteMessage(OpBinary, payload[:n])
							continue
						}
						b := make([]byte, from.Headroom()+n)
						copy(b[from.Headroom():], payload)
						from.WriteBuffer(OpBinary, b)
						if !bytes.Equal(b[from.Headroom():], payload[:n]) {
							t.Errorf("%d bytes: WriteBuffer changed the payload", n)
						}
					}
					from.Close(StatusNormal, "")
				}()
				all, err := readAll(to, 64<<10)
				to.Close(StatusNormal, "")
				if endOf(err) != 1000 || len(all) != len(sizes) {
					t.Fatalf("%s: %d messages, then %v", write, len(all), err)
				}
				for i, n := range sizes {
					if all[i].payload != string(payload[:n]) || !all[i].whole {
						t.Errorf("%s: %d bytes arrived changed", write, n)
					}
				}
			}
		})
		t.Run(s.name+"/16 MiB in fragments of 64", func(t *testing.T) {
			t.Parallel()
			raw, c := s.start(t, Options{})
			go func() {
				w := make([]byte, 0, 80<<10)
				for i := 0; i < len(payload); i += 64 {
					first := cont
					if i == 0 {
						first = bin
					}
					if i+64 == len(payload) {
						first |= fin
					}
					w = append(w, makeFrame(first, payload[i:i+64], !s.client)...)
					if len(w) > 64<<10 || first&fin != 0 {
						if _, err := raw.Write(w); err != nil {
							return
						}
						w = w[:0]
					}
				}
			}()
			if op, err := c.NextMessage(); op != OpBinary || err != nil {
				t.Fatal(op, err)
			}
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, payload) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
		t.Run(s.name+"/not minimal lengths", func(t *testing.T) {
			t.Parallel()
			raw, c := s.start(t, Options{})
			for _, head := range [][]byte{{fin | bin, 126, 0, 3}, {fin | bin, 127, 0, 0, 0, 0, 0, 0, 0, 3}} {
				if !s.client {
					head[1] |= 0x80
					head = append(head, 0, 0, 0, 0)
				}
				raw.Write(append(head, "abc"...))
				c.NextMessage()
				if got, err := io.ReadAll(c); string(got) != "abc" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
}

// hugeHeader returns the header of a frame of n bytes.
func (s side) hugeHeader(first byte, n uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte{first, 127}, n)
	if !s.client {
		b[1] |= 0x80
		b = append(b, 0, 0, 0, 0)
	}
	return b
}

func TestHugeLength(t *testing.T) {
	for _, s := range bothSides {
		t.Run(s.name, func(t *testing.T) {
			raw, c := s.start(t, Options{})
			const sent = 32 << 20
			go func() {
				raw.Write(s.hugeHeader(fin|bin, math.MaxInt64))
				chunk := make([]byte, 64<<10)
				for range sent / len(chunk) {
					raw.Write(chunk)
				}
			}()
			if _, err := c.NextMessage(); err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 32<<10)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for got := 0; got < sent; {
				n, err := c.Read(p)
				if err != nil {
					t.Fatal(err)
				}
				got += n
			}
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
				t.Errorf("allocated %d bytes for reading %d", grown, sent)
			}
		})
		t.Run(s.name+"/top bit", func(t *testing.T) {
			raw, c := s.start(t, Options{})
			raw.Write(s.hugeHeader(fin|bin, 1<<63))
			if _, err := c.NextMessage(); endOf(err) != -1002 {
				t.Errorf("got %v", err)
			}
		})
	}
}

// An invalid header is refused before the rest of it arrives, and payload is delivered before the rest of its
// frame arrives.
func TestStalledFrames(t *testing.T) {
	for _, s := range bothSides {
		t.Run(s.name+"/header", func(t *testing.T) {
			raw, c := s.start(t, Options{})
			b := []byte{fin | 0x40 | bin, 127}
			raw.Write(b)
			if _, err := c.NextMessage(); endOf(err) != -1002 {
				t.Errorf("got %v", err)
			}
		})
		t.Run(s.name+"/payload", func(t *testing.T) {
			raw, c := s.start(t, Options{})
			b := s.frame(fin|bin, strings.Repeat("abcde", 2000))
			raw.Write(b[:len(b)-1])
			c.NextMessage()
			if _, err := io.ReadFull(c, make([]byte, 9999)); err != nil {
				t.Fatal(err)
			}
			raw.Write(b[len(b)-1:])
			if rest, err := io.ReadAll(c); string(rest) != "e" || err != nil {
				t.Errorf("%q, %v", rest, err)
			}
		})
		t.Run(s.name+"/deadline loses nothing", func(t *testing.T) {
			raw, c := s.start(t, Options{})
			pongs := make(chan string, 9)
			c.OnPong(func(p []byte) { pongs <- string(p) })
			stream := append(s.frame(fin|pong, "p"), s.frame(fin|bin, "data")...)
			var got []byte
			for i := range stream {
				raw.Write(stream[i : i+1])
				for {
					c.NetConn().SetReadDeadline(time.Now().Add(time.Millisecond))
					var p [9]byte
					n, err := c.Read(p[:])
					if err == io.EOF && len(got) == 0 {
						_, err = c.NextMessage()
					}
					got = append(got, p[:n]...)
					if err != nil {
						break
					}
				}
			}
			if string(got) != "data" || len(pongs) != 1 || <-pongs != "p" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// Payload that NextMessage discards is checked like payload that is read.
func TestSkip(t *testing.T) {
	for _, s := range bothSides {
		t.Run(s.name, func(t *testing.T) {
			raw, c := s.start(t, Options{ValidateUTF8: true})
			if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("Read before NextMessage: %d, %v", n, err)
			}
			go func() {
				raw.Write(s.frame(bin, strings.Repeat("x", 100000)))
				raw.Write(s.frame(fin|ping, "p"))
				raw.Write(s.frame(fin|cont, strings.Repeat("y", 100000)))
				raw.Write(s.frame(fin|text, "second"))
				raw.Write(s.frame(fin|text, "bad \xff"))
				raw.Write(s.frame(fin|bin, "never"))
			}()
			c.NextMessage()
			c.Read(make([]byte, 10))
			if op, err := c.NextMessage(); op != OpText || err != nil {
				t.Fatal(op, err)
			}
			if b, err := io.ReadAll(c); string(b) != "second" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			if f := s.mustFrame(t, raw); f != (rawFrame{fin | pong, "p"}) {
				t.Errorf("sent %q", f)
			}
			c.NextMessage()
			if _, err := c.NextMessage(); endOf(err) != -1007 {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Any number of bytes that came with the handshake are read first.
func TestEarlyBytes(t *testing.T) {
	for _, s := range bothSides {
		for _, n := range []int{1, 100, 5000, 20000} {
			raw, nc := tcpPair(t)
			f := s.frame(fin|bin, strings.Repeat("x", n))
			raw.Write(f)
			raw.Write(s.frame(fin|bin, "next"))
			br := bufio.NewReaderSize(nc, max(16, len(f)/2+1))
			if _, err := br.Peek(len(f)/2 + 1); err != nil {
				t.Fatal(err)
			}
			c := newConn(nc, br, s.client, false, Options{})
			raw.Write(s.frame(fin|closE, ""))
			all, err := readAll(c, 1000)
			if endOf(err) != 1005 || len(all) != 2 || len(all[0].payload) != n || all[1].payload != "next" {
				t.Errorf("%s, %d bytes: %d messages, %v", s.name, n, len(all), err)
			}
			if len(c.buf) != readBufferSize {
				t.Errorf("read buffer stays at %d bytes", len(c.buf))
			}
			c.CloseNow()
		}
	}
}

func TestLastRead(t *testing.T) {
	raw, c := bothSides[0].start(t, Options{})
	first := c.LastRead()
	if since := time.Since(first); since < 0 || since > watchdog {
		t.Errorf("LastRead is %v ago at first", since)
	}
	// Half a frame counts as received, too.
	raw.Write([]byte{fin | bin, 0x80 | 5, 0})
	done := make(chan struct{})
	go func() { defer close(done); c.NextMessage() }()
	for !c.LastRead().After(first) {
		runtime.Gosched()
	}
	c.CloseNow()
	<-done
}

func TestWriteArguments(t *testing.T) {
	_, c := bothSides[0].start(t, Options{})
	if err := c.WriteMessage(opPing, nil); err == nil {
		t.Error("WriteMessage sends a ping")
	}
	if err := c.WriteBuffer(0, make([]byte, 20)); err == nil {
		t.Error("WriteBuffer sends a continuation")
	}
	if err := c.WriteBuffer(OpText, make([]byte, c.Headroom()-1)); err == nil {
		t.Error("WriteBuffer takes a short buffer")
	}
	if err := c.Ping(make([]byte, 126)); err == nil {
		t.Error("Ping takes 126 bytes")
	}
	if n, err := c.Read(nil); n != 0 || err != nil {
		t.Errorf("empty Read: %d, %v", n, err)
	}
	c.CloseNow()
	if err := c.WriteMessage(OpText, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after CloseNow: %v", err)
	}
	if _, err := c.NextMessage(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after CloseNow: %v", err)
	}
	if err := c.Ping(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("ping after CloseNow: %v", err)
	}
}
