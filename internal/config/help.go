package config

import (
	"fmt"
	"strings"

	"adit/server"
)

// RouteHelp lists the keys of [[route]] for the help of adit server, in lines
// of at most 80 columns.
func RouteHelp() string {
	const column = 24 // where the words begin
	var b strings.Builder
	for _, s := range routeSettings(new(server.Route)) {
		words := s.help
		if choices := s.to.choices(); len(choices) > 0 {
			words += ": " + either(choices)
		}
		if s.unset != "" {
			words += " (default " + strings.ReplaceAll(s.unset, `"`, "") + ")"
		}
		fmt.Fprintf(&b, "%-*s", column, "  "+s.key)
		b.WriteString(strings.TrimPrefix(wrap(words, strings.Repeat(" ", column), 80), strings.Repeat(" ", column)))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// wrap breaks text at blanks into lines of at most width columns, each of
// which begins with prefix and ends with a newline.
func wrap(text, prefix string, width int) string {
	var b strings.Builder
	line := prefix
	for word := range strings.FieldsSeq(text) {
		if line != prefix && len([]rune(line))+len([]rune(word)) > width {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = prefix
		}
		line += word + " "
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
	return b.String()
}
