package systemd

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"
)

// Only standard error that systemd has connected to the journal is the journal.
func TestIsJournal(t *testing.T) {
	if IsJournal(new(bytes.Buffer)) {
		t.Error("a buffer is taken for the journal")
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(syscall.Stderr, &st); err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[string]bool{"": false, "x": false, "1:2": false, fmt.Sprintf("%d:%d", st.Dev, st.Ino): true} {
		t.Setenv("JOURNAL_STREAM", stream)
		if IsJournal(os.Stderr) != want || IsJournal(os.Stdout) {
			t.Errorf("JOURNAL_STREAM=%q: %v", stream, !want)
		}
	}
}
