// Package link is a reliable, numbered byte stream that outlives the
// connections under it. It knows neither streams nor yamux: package mux puts
// those on top.
//
//	mux      sessions, streams, yamux
//	         │ Write, WriteOwned, Read        one byte stream each way
//	link     send buffer · acknowledgements · flight limit
//	         │ Conn                           one message at a time
//	ws       WebSocket messages, pings, close frames
//	         │
//	TLS, TCP, proxies, …
//
// # Protocol
//
// Every message of a connection has one of the types in wire.go. The bytes of
// each direction are numbered from 0 for the whole life of the link, whatever
// connection they travel by. A data message begins with the number of bytes
// that its sender has received; the peer forgets the bytes before that number.
//
//	A                                              B
//	│── data  (received 0)  bytes 0..999 ──────────►│
//	│◄───────────────────── ack (received 1000) ────│   A forgets 0..999
//	│── data  (received 0)  bytes 1000..1999 ───╳   │   the connection is lost
//	│                                               │
//	│   a new connection; the hellos say: B has 1000, A has 0
//	│── data  (received 0)  bytes 1000..1999 ──────►│
//	│── close (code, reason) ──────────────────────►│   the end, told
//
// The hello messages that begin a connection, and who may resume what, are
// mux's business: it calls Detach and Attach at the side that accepts, Migrate
// at the side that dials.
//
// docs/protocol.md has every byte.
package link
