// Package terminal asks and sets what only a terminal can do.
package terminal

import (
	"io"
	"io/fs"
	"os"
)

// Is reports whether w is a terminal, or another character device.
func Is(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&fs.ModeCharDevice != 0
}
