package terminal_test

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"adit/internal/terminal"
	"adit/internal/testnet"
)

func TestHideInput(t *testing.T) {
	tty := testnet.Terminal(t)
	echo := func() bool {
		t.Helper()
		settings, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return settings.Lflag&unix.ECHO != 0
	}
	if !terminal.Is(tty) {
		t.Error("a pseudo-terminal is not taken for a terminal")
	}
	restore := terminal.HideInput(tty)
	if restore == nil || echo() {
		t.Fatalf("input is shown (restore %v)", restore != nil)
	}
	if restore(); !echo() {
		t.Error("input stays hidden")
	}
}

func TestFileIsNoTerminal(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if terminal.Is(f) || terminal.Is(new(bytes.Buffer)) || terminal.HideInput(f) != nil {
		t.Error("a file is taken for a terminal")
	}
}
