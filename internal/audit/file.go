package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// OpenFile returns a sink that appends to a file one JSON object on a line for
// each record. It makes the file, with mode 0600. To have a file that was moved
// away made anew, open it again and use Log.Replace.
func OpenFile(path string) (Sink, error) {
	// Nonblocking: of a pipe nobody reads, opening must not wait.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the audit file: %w", err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: errNotRegular}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open the audit file: %w", err)
	}
	return &lines{w: f, file: f}, nil
}

var errNotRegular = errors.New("it is not a regular file")

// Lines returns a sink that writes JSON lines to w, which it does not close.
func Lines(w io.Writer) Sink { return &lines{w: w} }

type lines struct {
	w      io.Writer
	file   *os.File // w, if it is ours
	buf    bytes.Buffer
	looked bool // at how file ended
	torn   bool // the last line is incomplete
}

func (s *lines) Write(records []Record) error {
	if s.file != nil && !s.looked {
		// Not when it is opened: the sink before may still write.
		s.looked, s.torn = true, endsTorn(s.file)
	}
	s.buf.Reset()
	if s.torn {
		s.buf.WriteByte('\n')
	}
	enc := json.NewEncoder(&s.buf)
	enc.SetEscapeHTML(false)
	for i := range records {
		if err := enc.Encode(&records[i]); err != nil {
			return fmt.Errorf("encode an audit record: %w", err) // a float that is no number; there is none
		}
	}
	n, err := s.w.Write(s.buf.Bytes())
	if n > 0 {
		s.torn = s.buf.Bytes()[n-1] != '\n'
	}
	if err != nil {
		return fmt.Errorf("write audit records: %w", err)
	}
	return nil
}

func (s *lines) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// endsTorn reports whether a file ends within a line.
func endsTorn(f *os.File) bool {
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return false
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], st.Size()-1)
	return err == nil && last[0] != '\n'
}
