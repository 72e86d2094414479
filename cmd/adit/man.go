package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"adit/internal/config"
)

// manCommand prints the manual pages. They are made of the same definitions as the help, and so
// they cannot say anything else.
func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man [COMMAND]",
		Short: "print a manual page, for man -l",
		Long: `Prints the manual page of adit, or of one of its commands, as troff source.
The packages install these pages.`,
		Example: `  adit man client | man -l -
  adit man server > /usr/local/share/man/man1/adit-server.1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			page, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return badUsage(theCommands(root), "no manual page for %q", strings.Join(args, " "))
			}
			_, err = io.WriteString(cmd.OutOrStdout(), manPage(page))
			return err
		},
	}
}

// manPage writes the page of a command.
func manPage(c *cobra.Command) string {
	c.InitDefaultHelpFlag()
	var b strings.Builder
	title := strings.ReplaceAll(c.CommandPath(), " ", "-")
	// No date: the same source makes the same page.
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"adit %s\"\n", strings.ToUpper(title), troff(versionText()))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", troff(title), troff(c.Short))
	b.WriteString(".SH SYNOPSIS\n")
	if c.HasParent() {
		fmt.Fprintf(&b, ".B %s\n%s\n", troff(c.CommandPath()), troff(strings.TrimPrefix(strings.TrimPrefix(c.Use, c.Name()), " ")))
	} else {
		b.WriteString(".B adit\n.I COMMAND\n[\\fIflags\\fR]\n")
	}
	if c.Long != "" {
		b.WriteString(".SH DESCRIPTION\n" + manText(c.Long))
	}
	if c.HasSubCommands() {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", troff(sub.CommandPath()), troff(sub.Short))
			}
		}
	}
	b.WriteString(manFlags(c.NonInheritedFlags()))
	if c.Example != "" {
		b.WriteString(".SH EXAMPLES\n" + manText(c.Example))
	}
	b.WriteString(".SH SEE ALSO\n" + manSeeAlso(c) + "\n")
	return b.String()
}

// manFlags describes every flag that the help shows.
func manFlags(flags *pflag.FlagSet) string {
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
		b.WriteString(manNames(f))
	})
	return b.String()
}

// manNames says where else a flag's setting can be given.
func manNames(f *pflag.Flag) string {
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

// manSeeAlso names the other pages.
func manSeeAlso(c *cobra.Command) string {
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

// manText sets a text of the help: what is indented there, tables and examples, keeps its lines.
func manText(text string) string {
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

// troff writes a text so that troff sets it as it is.
func troff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "~", `\(ti`, "^", `\(ha`, "`", `\(ga`, "'", `\(aq`).Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}
