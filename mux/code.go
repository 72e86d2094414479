package mux

import "strconv"

// Code says how an attempt to connect a stream ended, or why one was reset.
type Code byte

// The codes. A peer may send others, of a later version; they read as "code N".
const (
	Connected   Code = 0
	Refused     Code = 1 // the target refused the connection
	Unreachable Code = 2 // no route to the target
	Timeout     Code = 3 // the target did not answer in time
	NotFound    Code = 4 // the name does not resolve, or no such named target
	Forbidden   Code = 5 // the server's policy does not allow it
	Busy        Code = 6 // over a limit
	Failed      Code = 7 // any other failure
	GoingAway   Code = 8 // this session takes no new streams
	Reset       Code = 9 // the connection at the other end was reset
	Cancelled   Code = 10
	Unsupported Code = 11 // the peer does not know this kind of stream
)

var codeNames = [...]string{
	Connected: "connected", Refused: "refused", Unreachable: "unreachable", Timeout: "timeout",
	NotFound: "not-found", Forbidden: "forbidden", Busy: "busy", Failed: "failed",
	GoingAway: "going-away", Reset: "reset", Cancelled: "cancelled", Unsupported: "unsupported",
}

func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "code " + strconv.Itoa(int(c))
}
