package clientd

import (
	"adit/client"
	"adit/internal/config"
	"adit/internal/daemon"
	"adit/mux"
)

// clientForwards converts forwards. It takes the sockets that systemd handed over
// for them.
func clientForwards(list []config.Forward, sockets daemon.Sockets) ([]client.Forward, error) {
	var out []client.Forward
	for _, f := range list {
		target := Target(f.Target)
		if f.Listen.Network != "systemd" {
			out = append(out, client.Forward{Network: f.Listen.Network, Address: f.Listen.Address, Target: target})
			continue
		}
		ls, err := sockets.Take(f.Listen.Address)
		if err != nil {
			for _, o := range out {
				if o.Listener != nil {
					o.Listener.Close()
				}
			}
			return nil, err
		}
		for _, l := range ls {
			out = append(out, client.Forward{Listener: l, Target: target})
		}
	}
	return out, nil
}

// Target returns the form in which the server is asked for an address.
func Target(a config.Address) mux.Target {
	kind := mux.TCP
	switch a.Network {
	case "unix":
		kind = mux.Unix
	case "name":
		kind = mux.Named
	}
	return mux.Target{Kind: kind, Address: a.Address}
}
