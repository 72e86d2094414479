package config

import "strings"

// parseUnix reads unix:PATH or a bare path. ok reports whether s is meant as one.
func parseUnix(s string) (a Address, ok bool, err error) {
	path, prefixed := strings.CutPrefix(s, "unix:")
	if !prefixed && !isPath(s) {
		return Address{}, false, nil
	}
	path = oneSlash(path)
	if prefixed && !isPath(path) {
		return Address{}, true, bad("write unix:/run/adit/x.sock", "%q: the path must begin with / or .", s)
	}
	if err := checkSocketPath(path); err != nil {
		return Address{}, true, err
	}
	return Address{"unix", path}, true, nil
}

// isPath reports whether s is meant as a file name: it begins with / or a dot.
func isPath(s string) bool {
	return strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../")
}

// oneSlash reduces the slashes that begin a path to one: unix:///run/x.sock.
func oneSlash(p string) string {
	if strings.HasPrefix(p, "//") {
		return "/" + strings.TrimLeft(p, "/")
	}
	return p
}

// maxSocketPath is what sockaddr_un holds on Linux, less the final zero.
const maxSocketPath = 107

// checkSocketPath checks the path of a unix socket, which need not exist.
func checkSocketPath(p string) error {
	const hint = "write a short path without colons, e.g. /run/adit/app.sock"
	switch {
	case len(p) > maxSocketPath:
		return bad(hint, "socket path %q is longer than %d bytes", p, maxSocketPath)
	case strings.HasSuffix(p, "/"):
		return bad(hint, "socket path %q is a directory", p)
	}
	for i := range len(p) {
		if p[i] < 0x20 || p[i] == 0x7f {
			return bad(hint, "socket path %q contains a control character", p)
		}
	}
	return nil
}

// parseSystemd checks a FileDescriptorName= (systemd.socket(5)).
func parseSystemd(name string) (Address, error) {
	const hint = "write systemd:NAME, where NAME is the FileDescriptorName= of the socket unit, e.g. systemd:adit"
	if name == "" || len(name) > 255 {
		return Address{}, bad(hint, "systemd:%s: the name is empty or too long", name)
	}
	for i := range len(name) {
		if name[i] <= 0x20 || name[i] >= 0x7f || name[i] == ':' {
			return Address{}, bad(hint, "systemd:%s: the name contains %q", name, name[i])
		}
	}
	return Address{"systemd", name}, nil
}
