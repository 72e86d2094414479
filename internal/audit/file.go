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

	"adit/internal/logline"
)

// OpenFile returns a sink that appends one line of JSON per record to a file,
// which it creates (0600) if it does not exist. After a rotation, open the path
// again and call Log.Replace.
func OpenFile(path string) (Sink, error) {
	// Opening a FIFO without a reader must not block.
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
	return &lines{w: logline.NewJSONWriter(f), file: f}, nil
}

var errNotRegular = errors.New("it is not a regular file")

// Lines returns a sink that writes JSON lines to w, which it does not close.
func Lines(w io.Writer) Sink { return &lines{w: logline.NewJSONWriter(w)} }

type lines struct {
	w       *logline.Writer
	file    *os.File // that of w, if the sink owns it
	buf     bytes.Buffer
	checked bool // whether file ended in an incomplete line
}

func (s *lines) Write(records []Record) error {
	if s.file != nil && !s.checked {
		// OpenFile cannot check this: the previous sink may still write.
		s.checked = true
		if endsWithinLine(s.file) {
			s.w.AfterPartial()
		}
	}
	s.buf.Reset()
	enc := json.NewEncoder(&s.buf)
	enc.SetEscapeHTML(false)
	for i := range records {
		if err := enc.Encode(&records[i]); err != nil {
			return fmt.Errorf("encode an audit record: %w", err) // only if Seconds is NaN or infinite
		}
	}
	if _, err := s.w.Write(s.buf.Bytes()); err != nil {
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

// endsWithinLine reports whether a file ends without a newline.
func endsWithinLine(f *os.File) bool {
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return false
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], st.Size()-1)
	return err == nil && last[0] != '\n'
}
