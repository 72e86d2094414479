// Package extendedconnect makes net/http accept extended CONNECT requests
// (RFC 8441), with which browsers open WebSockets over HTTP/2. It is imported
// for that effect alone.
//
// Go's HTTP/2 server only takes them when the environment variable GODEBUG has
// http2xconnect=1 at the moment when net/http is initialised, and there is
// neither a //go:debug directive nor a field of http.Server for it. The
// language orders the initialisation of packages by their dependencies and
// then by import path; this package depends on os alone and sorts before
// "net/http", so it comes first. A test fails where that should ever change.
//
// A GODEBUG that mentions http2xconnect already is left as it is.
package extendedconnect

import "os"

func init() {
	const name = "GODEBUG"
	os.Setenv(name, withExtendedConnect(os.Getenv(name)))
}

// withExtendedConnect adds the setting. Packages for searching are not used:
// each would be one more that has to be initialised before.
func withExtendedConnect(value string) string {
	const setting = "http2xconnect"
	for i := 0; i+len(setting) <= len(value); i++ {
		if value[i:i+len(setting)] == setting {
			return value
		}
	}
	if value != "" {
		value += ","
	}
	return value + setting + "=1"
}
