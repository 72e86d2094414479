// Package extendedconnect makes net/http accept extended CONNECT requests
// (RFC 8441), which browsers use to open WebSockets over HTTP/2. Import it for
// this side effect.
//
// Go's HTTP/2 server accepts them only if the environment variable GODEBUG
// contains http2xconnect=1 when net/http is initialized; there is neither a
// //go:debug directive nor a field of http.Server for it. Go initializes
// packages in the order of their dependencies and then of their import paths.
// This package imports only os and sorts before "net/http", so it comes first.
// A test fails if that changes.
//
// A GODEBUG that already mentions http2xconnect stays unchanged.
package extendedconnect

import "os"

func init() {
	const name = "GODEBUG"
	os.Setenv(name, withExtendedConnect(os.Getenv(name)))
}

// withExtendedConnect adds the setting to a value of GODEBUG. It does not
// import package strings, which would have to be initialized first.
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
