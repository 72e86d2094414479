package logline

import (
	"bytes"
	"io"
	"os"
	"sync"
)

// Writer writes whole lines. When the disk is full, only the beginning of a line may
// fit: the Writer cuts that off again if it can, and otherwise begins the next line
// on a line of its own. Any goroutine may use it.
type Writer struct {
	w    io.Writer
	file *os.File // w, or nil if it is not a file
	json bool

	// Guarded by mu.
	mu      sync.Mutex
	buf     []byte
	partial bool // the last line is incomplete
}

// NewWriter returns a Writer of text.
func NewWriter(w io.Writer) *Writer {
	f, _ := w.(*os.File)
	return &Writer{w: w, file: f}
}

// NewJSONWriter returns a Writer of JSON, which it escapes as AppendEscaped does.
func NewJSONWriter(w io.Writer) *Writer {
	s := NewWriter(w)
	s.json = true
	return s
}

// Write writes p, one or more whole lines. The count that it returns is 0 or len(p).
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = w.buf[:0]
	if w.partial {
		w.buf = append(w.buf, '\n')
	}
	if w.json {
		w.buf = AppendEscaped(w.buf, p)
	} else {
		w.buf = append(w.buf, p...)
	}
	n, err := w.w.Write(w.buf)
	if n > 0 {
		torn := n - 1 - bytes.LastIndexByte(w.buf[:n], '\n')
		w.partial = torn > 0 && !w.cut(int64(torn))
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// AfterPartial makes the next line begin on a line of its own, because what was
// written by another Writer ends within a line.
func (w *Writer) AfterPartial() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.partial = true
}

// cut removes the last n bytes of the file, which were written just now, and
// reports whether it has. It does nothing if another process has appended since.
func (w *Writer) cut(n int64) bool {
	if w.file == nil {
		return false
	}
	st, err := w.file.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return false
	}
	end, err := w.file.Seek(0, io.SeekCurrent)
	if err != nil || end != st.Size() || end < n || w.file.Truncate(end-n) != nil {
		return false
	}
	_, err = w.file.Seek(end-n, io.SeekStart) // for a file that is not opened for appending
	return err == nil
}
