package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// echoOff stops a terminal from showing what is typed and returns what undoes
// it, or nil when f is no terminal. A signal to stop undoes it, too, before it
// ends the process.
func echoOff(f *os.File) (restore func()) {
	fd := int(f.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	restore = func() {
		unix.IoctlSetTermios(fd, unix.TCSETS, old)
		signal.Stop(stop)
		close(stop)
	}
	go func() {
		if sig, ok := <-stop; ok {
			unix.IoctlSetTermios(fd, unix.TCSETS, old)
			signal.Reset(sig)
			unix.Kill(os.Getpid(), sig.(syscall.Signal))
		}
	}()
	quiet := *old
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		restore()
		return nil
	}
	return restore
}
