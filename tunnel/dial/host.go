package dial

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// asciiHost returns the ASCII form of a host, as it is sent.
func asciiHost(host string) (string, error) {
	for i := range len(host) {
		if host[i] <= ' ' || host[i] == 0x7f || host[i] == '/' || host[i] == '\\' {
			return "", fmt.Errorf("%q is not a host name", printable(host))
		}
	}
	for i := range len(host) {
		if host[i] >= 0x80 {
			a, err := idna.Lookup.ToASCII(host)
			if err != nil {
				return "", fmt.Errorf("%q is not a host name: %w", printable(host), err)
			}
			return a, nil
		}
	}
	return host, nil
}

// hostPort joins a host without brackets and an optional port as in a URL.
func hostPort(host, port string) string {
	if port != "" {
		return net.JoinHostPort(host, port)
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// checkPort returns an error if p is not a TCP port.
func checkPort(p string) error {
	if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port %q is not a number from 1 to 65535", p)
	}
	return nil
}
