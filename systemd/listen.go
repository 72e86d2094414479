package systemd

import (
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
)

// Listeners returns the sockets that systemd passed, by their
// FileDescriptorName= (by default the name of the socket unit, such as
// adit-server.socket). A name can have several sockets. The caller owns them.
// Listeners removes the environment variables that announce them, so that a
// second call or a child process finds none.
//
// If one is not a listening stream socket, all are closed and Listeners
// returns an error.
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
