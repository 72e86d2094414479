//go:build !linux

package terminal

import "os"

// HideInput does nothing on this system and returns nil.
func HideInput(*os.File) (restore func()) { return nil }
