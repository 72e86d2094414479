package mux

import (
	"math/bits"
	"sync"
)

// piece is memory of a receive buffer, of which mem[from:to] is to be read, and
// mem[to:] to be filled. Its size is a power of two, from minPiece to MaxFrame, that
// is less than twice what it was made for: many streams with a few unread bytes must
// not hold a large buffer each.
type piece struct {
	mem      []byte
	from, to int
	pooled   *[]byte // mem as it is in its pool
}

const (
	// minPiece is the size of the smallest piece.
	minPiece = 4 << 10
	// maxSmallPiece bounds the pieces of a stream whose window has not grown. A
	// stream has at most one piece that is largely read, so unread bytes occupy no
	// more than twice the credit that was granted.
	maxSmallPiece = 64 << 10
)

// piecePools has the free pieces of each size, minPiece first.
var piecePools [6]sync.Pool

// pieceClass returns the index in piecePools of the pieces that n bytes need.
func pieceClass(n int) int { return bits.Len(uint(max(n, 1)-1) / minPiece) }

func newPiece(n int) piece {
	class := min(pieceClass(n), len(piecePools)-1)
	pooled, ok := piecePools[class].Get().(*[]byte)
	if !ok {
		mem := make([]byte, minPiece<<class)
		pooled = &mem
	}
	return piece{mem: *pooled, pooled: pooled}
}

func (p *piece) free() { piecePools[pieceClass(len(p.mem))].Put(p.pooled) }
