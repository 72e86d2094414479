//go:build !race && !plainio

package tunnel

func raceRead(uintptr, []byte, error) {}
func raceWrite([]byte)                {}
