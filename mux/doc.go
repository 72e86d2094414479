// Package mux carries many byte streams over one WebSocket connection at a time.
//
// The layers, from the top down; imports and calls go down only:
//
//	Session     Open, Accept, Shutdown, Resume            session*.go, handshake.go
//	SessionStore  the server's sessions for resumption    store.go
//	   │
//	Stream      target, result, frames, end, reset         stream*.go
//	   │
//	flow control · control stream                          flow.go, control.go
//	   │
//	yamux ◄──► adapter · receive buffers                   adapter*.go, receivebuffer.go
//	   │
//	package link: a resumable byte stream                  link/
//	   │
//	package ws: WebSocket messages
//
// hashicorp/yamux numbers, opens and closes the streams, bounds their backlog,
// and keeps the table of half-closed ones. What streams carry goes beside it, by
// way of the adapter: yamux copies every byte twice, passes it between
// goroutines, has a fixed window that is the same for an idle and a bulk stream,
// and lets nothing overtake. So data frames are written straight to the link and
// read straight into a stream's receive buffer; credit and resets travel on a
// control stream of ours; half-close and reset, which yamux does not tell apart
// from an end, are in the frames. Pings and liveness are the link's.
//
// docs/protocol.md has every byte.
package mux
