//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

// A sizeCase is one message that is large, fragmented, or both.
type sizeCase struct {
	op       byte
	size     int
	fragment int // bytes per frame; 0: one frame
	chop     int // bytes per Write; 0: all at once
	payload  func(int) string
}

func (c sizeCase) name() string {
	name := fmt.Sprintf("%d bytes of opcode %d", c.size, c.op)
	if c.fragment > 0 {
		name += fmt.Sprintf(", in fragments of %d", c.fragment)
	}
	if c.chop > 0 {
		name += fmt.Sprintf(", in pieces of %d", c.chop)
	}
	return name
}

// sizeCases returns messages of up to 16 MiB.
func sizeCases(text bool) []sizeCase {
	payload := binaryPayload
	ops := []byte{opText, opBinary}
	if text {
		payload = textPayload
	}
	var all []sizeCase
	for _, op := range ops {
		add := func(size, fragment, chop int) {
			payload := payload
			if op == opText {
				payload = textPayload
			}
			all = append(all, sizeCase{op, size, fragment, chop, payload})
		}
		for _, size := range []int{64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20, 16 << 20} {
			add(size, 0, 0)
		}
		for fragment := 64; fragment <= 4<<20; fragment *= 4 {
			add(4<<20, fragment, 0)
		}
		add(16<<20, 64, 0)
		for chop := 64; chop <= 2048; chop *= 2 {
			add(1<<20, 0, chop)
		}
		add(4096, 0, 1)
		add(4096, 64, 1)
		add(2048, 1, 1)
		add(65536, 1300, 0)
		add(256<<10, 1, 0)
	}
	return all
}

func (c sizeCase) run(p *peer) error {
	defer p.Close()
	payload := []byte(c.payload(c.size))
	got := 0
	p.onData = func(b []byte) error {
		if !bytes.HasPrefix(payload[got:], b) {
			return fmt.Errorf("the returned data differs after byte %d", got)
		}
		got += len(b)
		return nil
	}
	wrote := make(chan error, 1)
	go func() { wrote <- c.write(p, payload) }()
	err := p.until(func() bool { return got == len(payload) })
	if err != nil {
		p.Close()
		return errors.Join(fmt.Errorf("after %d bytes: %w", got, err), <-wrote)
	}
	if err := <-wrote; err != nil {
		return err
	}
	return p.bye()
}

// write sends the message. It makes frames as needed, because the message may have 16 MiB.
func (c sizeCase) write(w io.Writer, payload []byte) error {
	if c.chop > 0 {
		w = chopper{w, c.chop}
	}
	out := bufio.NewWriterSize(w, 64<<10)
	fragment := c.fragment
	if fragment == 0 {
		fragment = len(payload)
	}
	var frame []byte
	b0 := c.op
	for len(payload) > 0 {
		n := min(fragment, len(payload))
		if n == len(payload) {
			b0 |= fin
		}
		frame = appendFrame(frame[:0], b0, payload[:n])
		if _, err := out.Write(frame); err != nil {
			return err
		}
		payload, b0 = payload[n:], opCont
	}
	return out.Flush()
}

// chopper writes in pieces of n bytes.
type chopper struct {
	w io.Writer
	n int
}

func (c chopper) Write(p []byte) (int, error) {
	written := 0
	for piece := range slices.Chunk(p, c.n) {
		n, err := c.w.Write(piece)
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}
