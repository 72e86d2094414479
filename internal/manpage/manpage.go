// Package manpage writes manual pages from the definitions of commands, so that
// a page says what the help says.
package manpage

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"adit/internal/config"
)

// Page returns the manual page of a command as troff source. The same command and
// version make the same page.
func Page(c *cobra.Command, version string) string {
	c.InitDefaultHelpFlag()
	var b strings.Builder
	title := strings.ReplaceAll(c.CommandPath(), " ", "-")
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"adit %s\"\n", strings.ToUpper(title), troff(version))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", troff(title), troff(c.Short))
	b.WriteString(".SH SYNOPSIS\n")
	if c.HasParent() {
		fmt.Fprintf(&b, ".B %s\n%s\n", troff(c.CommandPath()), troff(strings.TrimPrefix(strings.TrimPrefix(c.Use, c.Name()), " ")))
	} else {
		b.WriteString(".B adit\n.I COMMAND\n[\\fIflags\\fR]\n")
	}
	if c.Long != "" {
		b.WriteString(".SH DESCRIPTION\n" + paragraphs(c.Long))
	}
	if c.HasSubCommands() {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", troff(sub.CommandPath()), troff(sub.Short))
			}
		}
	}
	b.WriteString(options(c.NonInheritedFlags()))
	if c.Example != "" {
		b.WriteString(".SH EXAMPLES\n" + paragraphs(c.Example))
	}
	b.WriteString(".SH SEE ALSO\n" + seeAlso(c) + "\n")
	return b.String()
}

// options describes every flag that the help shows.
func options(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		if b.Len() == 0 {
			b.WriteString(".SH OPTIONS\n")
		}
		b.WriteString(".TP\n")
		if f.Shorthand != "" {
			fmt.Fprintf(&b, "\\fB\\-%s\\fR, ", f.Shorthand)
		}
		fmt.Fprintf(&b, "\\fB\\-\\-%s\\fR", troff(f.Name))
		argument, usage := pflag.UnquoteUsage(f)
		if argument != "" {
			fmt.Fprintf(&b, " \\fI%s\\fR", troff(argument))
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
			usage += " (default " + f.DefValue + ")"
		}
		b.WriteString("\n" + troff(usage) + "\n")
		b.WriteString(otherNames(f))
	})
	return b.String()
}

// otherNames says where else a flag's setting can be given.
func otherNames(f *pflag.Flag) string {
	var names []string
	for _, key := range f.Annotations[config.KeyAnnotation] {
		names = append(names, "Key: \\fB"+troff(key)+"\\fR.")
	}
	for _, variable := range f.Annotations[config.VariableAnnotation] {
		names = append(names, "Variable: \\fB"+troff(variable)+"\\fR.")
	}
	if len(names) == 0 {
		return ""
	}
	return ".br\n" + strings.Join(names, " ") + "\n"
}

// seeAlso names the other pages.
func seeAlso(c *cobra.Command) string {
	var pages []string
	for _, other := range append([]*cobra.Command{c.Root()}, c.Root().Commands()...) {
		if other != c && (other == c.Root() || other.IsAvailableCommand()) && other.Name() != "help" {
			pages = append(pages, fmt.Sprintf("\\fB%s\\fR(1)", troff(strings.ReplaceAll(other.CommandPath(), " ", "-"))))
		}
	}
	if c.Flags().Lookup("config") != nil {
		pages = append(pages, fmt.Sprintf("\\fB%s\\fR(5)", troff("adit-"+strings.Replace(c.Name(), "check", "client", 1)+".toml")))
	}
	return strings.Join(pages, ",\n")
}

// paragraphs converts a text of the help. Indented lines, which are tables and
// examples there, keep their line breaks.
func paragraphs(text string) string {
	var b strings.Builder
	verbatim, gap := false, false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \n")
		if line == "" {
			gap = true
			continue
		}
		indented := strings.HasPrefix(line, " ")
		if verbatim && !indented {
			b.WriteString(".fi\n")
			gap = true
		}
		if gap && b.Len() > 0 {
			b.WriteString(".PP\n")
		}
		if indented && (!verbatim || gap) {
			b.WriteString(".nf\n")
		}
		b.WriteString(troff(line) + "\n")
		verbatim, gap = indented, false
	}
	if verbatim {
		b.WriteString(".fi\n")
	}
	return b.String()
}

// troff escapes a text, so that none of it is a request or an escape to troff.
func troff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "~", `\(ti`, "^", `\(ha`, "`", `\(ga`, "'", `\(aq`).Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}
