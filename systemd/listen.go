package systemd

import (
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
)

// Listeners takes over the sockets that the manager opened, by their
// FileDescriptorName= (by default the name of the socket unit, such as
// adit-server.socket). One name can stand for several. The caller owns them.
// The environment variables that tell of them are removed, so that a second
// call, or a child, finds none.
//
// A socket that is not a listening stream socket is an error; all are closed
// then.
func Listeners() (map[string][]net.Listener, error) {
	var err error
	listeners := map[string][]net.Listener{}
	for _, f := range activation.Files(true) {
		l, ferr := net.FileListener(f)
		f.Close() // FileListener made a copy
		if ferr != nil {
			if err == nil {
				err = fmt.Errorf("take over socket %q from systemd: %w", f.Name(), ferr)
			}
			continue
		}
		listeners[f.Name()] = append(listeners[f.Name()], l)
	}
	if err != nil {
		for _, named := range listeners {
			for _, l := range named {
				l.Close()
			}
		}
		return nil, err
	}
	return listeners, nil
}
