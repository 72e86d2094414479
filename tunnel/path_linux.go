package tunnel

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// PathOf asks the kernel about the TCP connection below nc, which it finds as
// SetUserTimeout does. It reports false where there is none and on systems
// that cannot tell.
func PathOf(nc net.Conn) (Path, bool) {
	tc := tcpConn(nc)
	if tc == nil {
		return Path{}, false
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return Path{}, false
	}
	var info *unix.TCPInfo
	var failure error
	err = raw.Control(func(fd uintptr) {
		info, failure = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if err != nil || failure != nil {
		return Path{}, false
	}
	return Path{
		Unacked:  info.Unacked > 0,
		Unsent:   info.Notsent_bytes > 0,
		SinceAck: time.Duration(info.Last_ack_recv) * time.Millisecond,
		Probes:   int(info.Probes),
		Gone:     info.State == unix.BPF_TCP_CLOSE,
	}, true
}

// ClearUserTimeout takes back what SetUserTimeout did. With it the kernel
// would also end a connection whose peer is there but reads nothing.
func ClearUserTimeout(nc net.Conn) {
	tc := tcpConn(nc)
	if tc == nil {
		return
	}
	if raw, err := tc.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 0)
		})
	}
}
