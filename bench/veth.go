//go:build linux

package main

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// connectVeth joins two hosts with network namespaces by a veth pair: packets cross the network
// stacks of two hosts, at the speed of the machine. The pair ends with either namespace.
func connectVeth(ctx context.Context, client, server *host) error {
	var thread int
	server.do(func() { thread = unix.Gettid() })
	if err := client.run(ctx, "ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", fmt.Sprint(thread)); err != nil {
		return err
	}
	for _, h := range []*host{client, server} {
		for _, argv := range [][]string{
			{"ip", "addr", "add", h.ip + "/24", "dev", "veth0"},
			{"ip", "link", "set", "veth0", "up"},
		} {
			if err := h.run(ctx, argv...); err != nil {
				return err
			}
		}
	}
	return nil
}
