// Package mux carries many byte streams over one WebSocket connection.
//
// From the bottom up: a link turns a ws.Conn into a reliable, numbered
// byte stream; hashicorp/yamux multiplexes that into streams; a thin layer on
// each yamux stream gives it what TCP has and yamux has not: a target, a
// result, an explicit end in each direction, resets, and a flow-control window
// that fits the path. docs/protocol.md has every byte of it.
package mux
