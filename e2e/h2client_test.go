//go:build linux

package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An h2Conn is the client side of an HTTP/2 connection, with what extended CONNECT (RFC 8441)
// needs.
type h2Conn struct {
	tls    *tls.Conn
	framer *http2.Framer
	reader sync.WaitGroup

	writeMu sync.Mutex // guards writes of the framer

	mu       sync.Mutex
	changed  sync.Cond // signals a change of a field below
	settled  bool      // the server's SETTINGS have arrived
	extended bool      // the SETTINGS allow extended CONNECT
	initial  int64     // send window of a new stream
	window   int64     // send window of the connection
	next     uint32
	streams  map[uint32]*h2Stream
	err      error // why the connection ended
}

// An h2Stream is one request. Once it is accepted it is a wire.
type h2Stream struct {
	conn   *h2Conn
	id     uint32
	window int64 // send window
	sent   bool  // END_STREAM has been sent

	fields map[string][]string // header of the answer, nil before it
	buf    bytes.Buffer        // unread data
	ended  bool                // END_STREAM has arrived
	err    error               // RST_STREAM has arrived
}

// h2Window is the receive window of each stream.
const h2Window = 256 << 10

// newH2Conn starts HTTP/2 and waits for the server's SETTINGS. conn has a deadline.
func newH2Conn(conn *tls.Conn) (*h2Conn, error) {
	c := &h2Conn{tls: conn, framer: http2.NewFramer(conn, conn), next: 1,
		initial: 65535, window: 65535, streams: make(map[uint32]*h2Stream)}
	c.changed.L = &c.mu
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return nil, err
	}
	if err := c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: h2Window}, http2.Setting{ID: http2.SettingEnablePush, Val: 0}); err != nil {
		return nil, err
	}
	if err := c.framer.WriteWindowUpdate(0, 1<<30); err != nil {
		return nil, err
	}
	c.reader.Go(c.read)
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.settled && c.err == nil {
		c.changed.Wait()
	}
	return c, c.err
}

func (c *h2Conn) Close() error {
	err := c.tls.NetConn().Close()
	c.reader.Wait()
	return err
}

func (c *h2Conn) read() {
	var err error
	for err == nil {
		var frame http2.Frame
		if frame, err = c.framer.ReadFrame(); err == nil {
			err = c.take(frame)
		}
	}
	c.mu.Lock()
	c.err = err
	c.changed.Broadcast()
	c.mu.Unlock()
}

// take handles a frame from the server.
func (c *h2Conn) take(frame http2.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changed.Broadcast()
	s := c.streams[frame.Header().StreamID]
	switch frame := frame.(type) {
	case *http2.SettingsFrame:
		if frame.IsAck() {
			return nil
		}
		c.settled = true
		if v, ok := frame.Value(http2.SettingEnableConnectProtocol); ok {
			c.extended = v == 1
		}
		if v, ok := frame.Value(http2.SettingInitialWindowSize); ok {
			for _, s := range c.streams {
				s.window += int64(v) - c.initial
			}
			c.initial = int64(v)
		}
		c.writeMu.Lock()
		defer c.writeMu.Unlock()
		return c.framer.WriteSettingsAck()
	case *http2.PingFrame:
		if frame.IsAck() {
			return nil
		}
		c.writeMu.Lock()
		defer c.writeMu.Unlock()
		return c.framer.WritePing(true, frame.Data)
	case *http2.GoAwayFrame:
		if frame.ErrCode != http2.ErrCodeNo {
			return fmt.Errorf("GOAWAY: %v %s", frame.ErrCode, frame.DebugData())
		}
	case *http2.WindowUpdateFrame:
		if s != nil {
			s.window += int64(frame.Increment)
		} else if frame.StreamID == 0 {
			c.window += int64(frame.Increment)
		}
	case *http2.MetaHeadersFrame:
		if s == nil || s.fields != nil {
			return fmt.Errorf("HEADERS for stream %d", frame.StreamID)
		}
		s.fields = make(map[string][]string)
		for _, h := range frame.Fields {
			s.fields[h.Name] = append(s.fields[h.Name], h.Value)
		}
		s.ended = frame.StreamEnded()
	case *http2.DataFrame:
		if s == nil || s.ended {
			return fmt.Errorf("DATA for stream %d", frame.StreamID)
		}
		s.buf.Write(frame.Data())
		s.ended = frame.StreamEnded()
		if padding := int(frame.Length) - len(frame.Data()); padding > 0 {
			return errors.New("padded DATA, which this client does not account for")
		}
	case *http2.RSTStreamFrame:
		// After END_STREAM, NO_ERROR only says that the server reads no more of the request.
		if s != nil && !(s.ended && frame.ErrCode == http2.ErrCodeNo) {
			s.err = fmt.Errorf("stream reset: %v", frame.ErrCode)
		}
	}
	return nil
}

// An h2Header is a list of names and values, in order.
type h2Header [][2]string

// connect is the header of an extended CONNECT.
func connect(authority, path string, more ...[2]string) h2Header {
	return append(h2Header{{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "https"},
		{":authority", authority}, {":path", path}, {"sec-websocket-version", "13"}}, more...)
}

// open sends a request, followed by early.
func (c *h2Conn) open(header h2Header, early string) (*h2Stream, error) {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range header {
		encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	c.mu.Lock()
	s := &h2Stream{conn: c, id: c.next, window: c.initial}
	c.next += 2
	c.streams[s.id] = s
	c.mu.Unlock()
	c.writeMu.Lock()
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: block.Bytes(), EndHeaders: true})
	c.writeMu.Unlock()
	if err == nil && early != "" {
		_, err = io.WriteString(s, early)
	}
	return s, err
}

// answer waits for the header of the answer and returns its status.
func (s *h2Stream) answer() (int, error) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for s.fields == nil {
		if err := errors.Join(c.err, s.err); err != nil {
			return 0, err
		}
		c.changed.Wait()
	}
	if len(s.fields[":status"]) != 1 {
		return 0, fmt.Errorf("an answer with the status %q", s.fields[":status"])
	}
	return strconv.Atoi(s.fields[":status"][0])
}

func (s *h2Stream) Read(p []byte) (int, error) {
	c := s.conn
	c.mu.Lock()
	for s.buf.Len() == 0 && !s.ended {
		if err := errors.Join(s.err, c.err); err != nil {
			c.mu.Unlock()
			return 0, err
		}
		c.changed.Wait()
	}
	n, _ := s.buf.Read(p)
	ended := s.ended
	c.mu.Unlock()
	if n == 0 {
		return 0, io.EOF
	}
	if ended {
		return n, nil
	}
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if err := c.framer.WriteWindowUpdate(0, uint32(n)); err != nil {
		// The next Read returns the error.
		return n, nil
	}
	c.framer.WriteWindowUpdate(s.id, uint32(n))
	return n, nil
}

func (s *h2Stream) Write(p []byte) (int, error) {
	c, written := s.conn, 0
	for len(p) > 0 {
		c.mu.Lock()
		for min(s.window, c.window) <= 0 && s.err == nil && c.err == nil {
			c.changed.Wait()
		}
		if err := errors.Join(s.err, c.err); err != nil {
			c.mu.Unlock()
			return written, err
		}
		n := min(int64(len(p)), s.window, c.window, 16<<10)
		s.window -= n
		c.window -= n
		c.mu.Unlock()
		c.writeMu.Lock()
		err := c.framer.WriteData(s.id, false, p[:n])
		c.writeMu.Unlock()
		if err != nil {
			return written, err
		}
		written += int(n)
		p = p[n:]
	}
	return written, nil
}

// CloseWrite sends END_STREAM.
func (s *h2Stream) CloseWrite() error {
	s.conn.writeMu.Lock()
	defer s.conn.writeMu.Unlock()
	if s.sent {
		return nil
	}
	s.sent = true
	return s.conn.framer.WriteData(s.id, true, nil)
}

// Reset sends RST_STREAM with CANCEL, which corresponds to a TCP reset (RFC 8441 section 5).
func (s *h2Stream) Reset() {
	s.conn.writeMu.Lock()
	defer s.conn.writeMu.Unlock()
	s.conn.framer.WriteRSTStream(s.id, http2.ErrCodeCancel)
}

// Close closes the connection, as each wire has one of its own.
func (s *h2Stream) Close() error { return s.conn.Close() }
