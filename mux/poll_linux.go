package mux

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller has Go's scheduler look at the network, which with one processor it does
// by itself only when nothing can run, or every 10 ms. The zero value is ready; close
// frees it.
//
// It waits for an event that it brings about itself: it is the network that says
// so, and whatever else the network has to say comes with it.
type poller struct {
	event  *os.File // an eventfd; nil before the first poll, or where there is none to be had
	raw    syscall.RawConn
	raised bool
	failed bool
}

const canPoll = true

// poll returns when the scheduler has looked. Until then others run.
func (p *poller) poll() {
	if p.event == nil && !p.open() {
		return
	}
	p.raised = false
	_ = p.raw.Read(p.raise)
}

func (p *poller) open() bool {
	if p.failed {
		return false
	}
	p.failed = true
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return false
	}
	event := os.NewFile(uintptr(fd), "eventfd")
	if p.raw, err = event.SyscallConn(); err != nil {
		event.Close()
		return false
	}
	p.event, p.failed = event, false
	return true
}

// raise brings the event about, and then has seen it: each time that something is
// added to its counter, the network says so, whatever was there before.
func (p *poller) raise(fd uintptr) (seen bool) {
	if p.raised {
		return true
	}
	p.raised = true
	one := uint64(1)
	_, _, errno := unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&one)), unsafe.Sizeof(one))
	return errno != 0
}

func (p *poller) close() {
	if p.event != nil {
		p.event.Close()
	}
}

// yield lets other processes run that wait for this one's processor.
func yield() { unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
