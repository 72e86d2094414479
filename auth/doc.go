// Package auth authenticates peers and decides what they may reach.
//
// [Users] maps credentials to an [Identity]: a bearer token, a name and
// password, or a name in a verified client certificate. A [Policy] says which
// addresses, sockets and named targets an identity may reach. A
// [PasswordLimiter] bounds what guessing passwords costs the server.
//
// All types are safe for concurrent use and, except PasswordLimiter, immutable
// after construction. The package does not log, print or read the environment,
// and no error contains a secret.
package auth
