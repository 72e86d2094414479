package terminal

import (
	"os"

	"golang.org/x/sys/unix"
)

// HideInput stops a terminal from showing what is typed. restore shows it again;
// it is nil when f is not a terminal. A signal that ends the process does not
// call restore: the caller has to.
func HideInput(f *os.File) (restore func()) {
	fd := int(f.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil
	}
	hidden := *old
	hidden.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &hidden); err != nil {
		return nil
	}
	return func() { unix.IoctlSetTermios(fd, unix.TCSETS, old) }
}
