package ws

import (
	"encoding/binary"
	"math/bits"
)

// maskBytes applies the mask of RFC 6455, section 5.3, to p in place. key is the masking key in
// little-endian order, rotated so that its lowest byte belongs to p[0]; the result is the key rotated for
// the byte after p.
func maskBytes(key uint32, p []byte) uint32 {
	if key == 0 {
		return 0
	}
	wide := uint64(key)<<32 | uint64(key)
	for len(p) >= 64 {
		// Reslicing to a constant length removes the bounds checks of the eight accesses.
		b := p[:64]
		binary.LittleEndian.PutUint64(b[0:], binary.LittleEndian.Uint64(b[0:])^wide)
		binary.LittleEndian.PutUint64(b[8:], binary.LittleEndian.Uint64(b[8:])^wide)
		binary.LittleEndian.PutUint64(b[16:], binary.LittleEndian.Uint64(b[16:])^wide)
		binary.LittleEndian.PutUint64(b[24:], binary.LittleEndian.Uint64(b[24:])^wide)
		binary.LittleEndian.PutUint64(b[32:], binary.LittleEndian.Uint64(b[32:])^wide)
		binary.LittleEndian.PutUint64(b[40:], binary.LittleEndian.Uint64(b[40:])^wide)
		binary.LittleEndian.PutUint64(b[48:], binary.LittleEndian.Uint64(b[48:])^wide)
		binary.LittleEndian.PutUint64(b[56:], binary.LittleEndian.Uint64(b[56:])^wide)
		p = p[64:]
	}
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^wide)
		p = p[8:]
	}
	for i := range p {
		p[i] ^= byte(key)
		key = bits.RotateLeft32(key, -8)
	}
	return key
}
