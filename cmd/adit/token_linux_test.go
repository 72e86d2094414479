package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"adit/internal/testnet"
)

func echoIsOn(t *testing.T, tty *os.File) bool {
	t.Helper()
	settings, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return settings.Lflag&unix.ECHO != 0
}

// A signal at the prompt for a password ends the process, and the terminal shows
// what is typed again.
func TestInterruptedPassword(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		tty := testnet.Terminal(t)
		cmd := adit(t, "token", "--password", "bob")
		cmd.Stdin = tty
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		prompt := make([]byte, len("password: "))
		if _, err := io.ReadFull(stderr, prompt); err != nil || string(prompt) != "password: " {
			t.Errorf("the prompt is %q, %v", prompt, err)
		}
		if echoIsOn(t, tty) {
			t.Error("the password is shown")
		}
		cmd.Process.Signal(sig)
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != sig {
			t.Errorf("%s ends the process with %v", sig, err)
		}
		if !echoIsOn(t, tty) {
			t.Errorf("after %s input stays hidden", sig)
		}
	}
}
