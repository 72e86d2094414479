package tunnel

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// PathOf asks the kernel about the TCP connection beneath nc, which it finds as SetUserTimeout does. It returns
// false if there is none, and on systems other than Linux.
func PathOf(nc net.Conn) (Path, bool) {
	var info *unix.TCPInfo
	err := controlTCP(nc, func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	if err != nil || info == nil {
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
