// Package textfile reads text files as other programs write them: with a byte
// order mark, and in UTF-16, which it names.
package textfile

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Read returns the text of a file, see Decode. A file of more than limit bytes is
// an error. The name may be that of a pipe. All errors are *fs.PathError.
func Read(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	var text []byte
	if int64(len(data)) > limit {
		err = fmt.Errorf("it is larger than %d MiB", limit>>20)
	} else {
		text, err = Decode(data)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return text, nil
}

// mark is the byte order mark in UTF-8.
var mark = []byte("\uFEFF")

// Decode returns data without its UTF-8 byte order marks, at the beginning and at
// the beginnings of lines, where joined files have them. UTF-16 and UTF-32 are an
// *EncodingError. Line ends stay as they are: the readers of TOML, PEM and tokens
// accept CRLF.
func Decode(data []byte) ([]byte, error) {
	if name := wide(data); name != "" {
		return nil, &EncodingError{name}
	}
	if !bytes.Contains(data, mark) {
		return data, nil
	}
	var text []byte
	for line := range bytes.Lines(data) {
		text = append(text, bytes.TrimPrefix(line, mark)...)
	}
	return text, nil
}

// wide returns the name of the encoding if data begins as UTF-16 or UTF-32 does,
// with or without a byte order mark, else "".
func wide(data []byte) string {
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xfe, 0, 0}), bytes.HasPrefix(data, []byte{0, 0, 0xfe, 0xff}):
		return "UTF-32"
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}), bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		return "UTF-16"
	case len(data) < 4:
		return ""
	}
	for _, first := range []int{0, 1} { // little endian, big endian
		if ascii(data[first]) && ascii(data[first+2]) && data[1-first] == 0 && data[3-first] == 0 {
			return "UTF-16"
		}
	}
	return ""
}

func ascii(c byte) bool { return c >= 0x20 && c < 0x7f || c == '\n' || c == '\r' || c == '\t' }

// EncodingError is a text in another encoding than UTF-8.
type EncodingError struct {
	Encoding string // "UTF-16" or "UTF-32"
}

func (e *EncodingError) Error() string { return "it is " + e.Encoding + ", not UTF-8" }

// Hint says how to convert the file.
func (e *EncodingError) Hint() string {
	return "save it as UTF-8: iconv -f " + e.Encoding + " -t UTF-8 FILE >NEW; in PowerShell, whose > writes UTF-16, … | Out-File -Encoding utf8 FILE"
}
