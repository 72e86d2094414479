package textfile

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
)

func TestDecode(t *testing.T) {
	utf16Of := func(order binary.AppendByteOrder, text string) string {
		var b []byte
		for _, u := range utf16.Encode([]rune(text)) {
			b = order.AppendUint16(b, u)
		}
		return string(b)
	}
	for _, tt := range []struct{ name, in, want, encoding string }{
		{"nothing", "", "", ""},
		{"plain", "a = 1\r\n", "a = 1\r\n", ""},
		{"mark", "\ufeffa = 1\n", "a = 1\n", ""},
		{"joined files", "\ufeffa\r\n\ufeffb\n", "a\r\nb\n", ""},
		{"mark inside of a line", "a \ufeffb", "a \ufeffb", ""},
		{"DER", "\x30\x82\x01\x00", "\x30\x82\x01\x00", ""},
		{"UTF-16LE", utf16Of(binary.LittleEndian, "\ufeffa = 1"), "", "UTF-16"},
		{"UTF-16BE", utf16Of(binary.BigEndian, "\ufeffa = 1"), "", "UTF-16"},
		{"UTF-16LE without mark", utf16Of(binary.LittleEndian, "a = 1"), "", "UTF-16"},
		{"UTF-16BE without mark", utf16Of(binary.BigEndian, "a = 1"), "", "UTF-16"},
		{"UTF-32LE", "\xff\xfe\x00\x00a\x00\x00\x00", "", "UTF-32"},
		{"UTF-32BE", "\x00\x00\xfe\xff\x00\x00\x00a", "", "UTF-32"},
	} {
		got, err := Decode([]byte(tt.in))
		var wrong *EncodingError
		if string(got) != tt.want || errors.As(err, &wrong) != (tt.encoding != "") {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
		if wrong != nil && (wrong.Encoding != tt.encoding || !strings.Contains(wrong.Hint(), "-f "+tt.encoding+" -t UTF-8")) {
			t.Errorf("%s: %v, hint %q", tt.name, wrong, wrong.Hint())
		}
	}
}

func TestReadIsBounded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(name, 1<<20); err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Error(err)
	}
	if text, err := Read(name, 1<<20+1); err != nil || len(text) != 1<<20+1 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if _, err := Read(filepath.Dir(name), 1); err == nil {
		t.Error("a directory was read")
	}
}
