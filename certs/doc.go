// Package certs makes the *tls.Config values of both ends of the tunnel.
//
// A server takes its certificate from a [Source]: files that are reloaded when
// they change ([Files]), a self-signed certificate that is made once and kept
// ([SelfSigned]), or an ACME authority ([ACME]). A client verifies the server
// by the system's authorities, a CA file, pins of the server's key, or a CA
// file and pins ([ClientConfig]).
//
// Errors that the user can correct have a method Hint() string with one
// sentence on what to do; find it with errors.As. The package does not log or
// print; FileSource.Warnings returns what is suspect but not an error.
package certs
