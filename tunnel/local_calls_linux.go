package tunnel

import (
	"encoding/binary"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls past Go's scheduler, like those of direct_calls_linux.go. None of
// these blocks, for the sockets do not, and none is ever interrupted.

// failure is the error of a system call, or nil.
func failure(call string, errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return os.NewSyscallError(call, errno)
}

// socketNow makes a TCP socket for an address.
func socketNow(a netip.Addr) (uintptr, error) {
	family := uintptr(unix.AF_INET)
	if a.Is6() {
		family = unix.AF_INET6
	}
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return fd, failure("socket", errno)
}

// acceptNow takes the next connection that waits. One that has been given up by
// then is skipped.
func acceptNow(listener uintptr) (fd uintptr, peer netip.AddrPort, err error) {
	for {
		var sa unix.RawSockaddrAny
		size := uint32(unsafe.Sizeof(sa))
		fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, listener, uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)),
			unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if errno != unix.ECONNABORTED {
			return fd, addrPort(&sa), failure("accept4", errno)
		}
	}
}

// connectNow connects, or begins to: then the error is EINPROGRESS, and
// connectResult will tell.
func connectNow(fd uintptr, to netip.AddrPort) error {
	var errno syscall.Errno
	if to.Addr().Is4() {
		sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().As4()}
		putPort(&sa.Port, to.Port())
		_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	} else {
		sa := unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: to.Addr().As16()}
		putPort(&sa.Port, to.Port())
		_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	}
	if errno == unix.EINPROGRESS {
		return connectResult(fd) // mostly it is through already
	}
	return failure("connect", errno)
}

// connectResult says how a connect went. The error is EINPROGRESS while it goes
// on.
func connectResult(fd uintptr) error {
	if err := peerNow(fd); err != unix.ENOTCONN {
		return err
	}
	var result int32
	size := uint32(unsafe.Sizeof(result))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_ERROR,
		uintptr(unsafe.Pointer(&result)), uintptr(unsafe.Pointer(&size)), 0)
	switch {
	case errno != 0:
		return failure("getsockopt", errno)
	case result != 0:
		return failure("connect", syscall.Errno(result))
	}
	return unix.EINPROGRESS
}

// shutdownNow ends the socket's own direction.
func shutdownNow(fd uintptr) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, fd, unix.SHUT_WR, 0)
	return failure("shutdown", errno)
}

// lingerNow sets what close(2) does (see Socket.setLinger).
func lingerNow(fd uintptr, seconds int) error {
	linger := unix.Linger{Onoff: 1, Linger: int32(seconds)}
	if seconds < 0 {
		linger = unix.Linger{}
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_LINGER,
		uintptr(unsafe.Pointer(&linger)), unsafe.Sizeof(linger), 0)
	return failure("setsockopt", errno)
}

// noDelayNow has the socket, and those that it accepts, send at once.
func noDelayNow(fd uintptr) error {
	on := int32(1)
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_NODELAY,
		uintptr(unsafe.Pointer(&on)), unsafe.Sizeof(on), 0)
	return failure("setsockopt", errno)
}

// congestionNow sets the congestion control.
func congestionNow(fd uintptr, name string) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION,
		uintptr(unsafe.Pointer(unsafe.StringData(name))), uintptr(len(name)), 0)
	return failure("setsockopt", errno)
}

// eventsNow is what poll(2) says of a socket that is not asked for anything.
func eventsNow(fd uintptr) (int16, error) {
	p := unix.PollFd{Fd: int32(fd)}
	var now unix.Timespec
	_, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return p.Revents, failure("ppoll", errno)
}

// peerNow fails where a socket has no peer, mostly with ENOTCONN.
func peerNow(fd uintptr) error {
	var sa unix.RawSockaddrAny
	size := uint32(unsafe.Sizeof(sa))
	if _, _, errno := unix.RawSyscall(unix.SYS_GETPEERNAME, fd, uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size))); errno != 0 {
		return errno
	}
	return nil
}

// ownAddr is the address of the socket's own end, or none.
func ownAddr(fd uintptr) netip.AddrPort {
	var sa unix.RawSockaddrAny
	size := uint32(unsafe.Sizeof(sa))
	if _, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, fd, uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size))); errno != 0 {
		return netip.AddrPort{}
	}
	return addrPort(&sa)
}

// addrPort is the address in sa, or none.
func addrPort(sa *unix.RawSockaddrAny) netip.AddrPort {
	switch sa.Addr.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), port(&sa.Port))
	case unix.AF_INET6:
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), port(&sa.Port))
	}
	return netip.AddrPort{}
}

// A port is big-endian, whatever the machine is.
func port(p *uint16) uint16 { return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:]) }
func putPort(p *uint16, port uint16) {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(p))[:], port)
}
