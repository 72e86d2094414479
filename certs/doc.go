// Package certs makes *tls.Config values for both ends of the tunnel.
//
// A server takes its certificate from a [Source]: files that are reloaded when
// they change ([Files]), a self-signed certificate made once and kept
// ([SelfSigned]), or an ACME authority ([ACME]). A client checks the server by
// the system's authorities, by a CA file, by pins of the server's key, or by
// both of these ([ClientConfig]).
//
// Where the user can do something about an error it has a method
// Hint() string, one sentence on what to do; find it with errors.As. Nothing
// here logs or prints; what is suspect but not wrong is returned by
// FileSource.Warnings.
package certs
