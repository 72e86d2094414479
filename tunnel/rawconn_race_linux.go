//go:build race && !plainio

package tunnel

import (
	"runtime"
	"syscall"
	"unsafe"
)

// The race detector takes it from package syscall that what a goroutine does before it writes to a
// socket happens before what another does after it has read from one. These tell it the same of
// direct system calls: syscall.Write does so before it calls, also in vain, and syscall.Read after a
// call that succeeds, as a read of no bytes does.

func raceRead(fd uintptr, p []byte, err error) {
	if err != nil {
		return
	}
	if len(p) > 0 {
		runtime.RaceWriteRange(unsafe.Pointer(unsafe.SliceData(p)), len(p))
	}
	_, _ = syscall.Read(int(fd), nil)
}

func raceWrite(p []byte) {
	if len(p) > 0 {
		runtime.RaceReadRange(unsafe.Pointer(unsafe.SliceData(p)), len(p))
	}
	_, _ = syscall.Write(-1, nil)
}
