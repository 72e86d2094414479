// Package auth decides who a peer is and what that peer may reach.
//
// [Users] turns credentials into an [Identity]: a bearer token, a name and
// password, or the name of a verified client certificate. A [Policy] says
// which addresses, sockets and named targets an identity may reach. A [Guard]
// bounds what guessing passwords costs the server.
//
// Everything here is immutable after construction, except Guard, and safe for
// concurrent use. Nothing here logs, prints or reads the environment; no error
// contains a secret.
package auth
