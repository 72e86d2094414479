package manpage

import "testing"

// No line of a text becomes a request to troff, and no character another one.
func TestParagraphs(t *testing.T) {
	got := paragraphs("First 'line'\n.second-line\n\nA table:\n  a\\b  c\n\n  ~d\nThe end.")
	want := `First \(aqline\(aq
\&.second\-line
.PP
A table:
.nf
  a\eb  c
.PP
.nf
  \(tid
.fi
.PP
The end.
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
