package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"adit/internal/manpage"
)

// shownCommands returns the program itself and the commands that its help lists.
func shownCommands() []*cobra.Command {
	root := rootCommand()
	list := []*cobra.Command{root}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			list = append(list, c)
		}
	}
	return list
}

// shownFlags returns the flags that the help of a command lists, with their dashes.
func shownFlags(c *cobra.Command) []string {
	var names []string
	c.InitDefaultHelpFlag()
	c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	return names
}

// Every command has a page, with exactly the flags that its help lists.
func TestManPagesHaveEveryFlag(t *testing.T) {
	entry := regexp.MustCompile(`(?m)^\.TP\n(?:\\fB\\-\w\\fR, )?\\fB\\-\\-([^\\]+(?:\\-[^\\]+)*)\\fR`)
	for _, c := range shownCommands() {
		var got []string
		page := manpage.Page(c, "1.2.3")
		for _, m := range entry.FindAllStringSubmatch(page, -1) {
			got = append(got, "--"+strings.ReplaceAll(m[1], `\-`, "-"))
		}
		if want := shownFlags(c); !slices.Equal(got, want) {
			t.Errorf("the page of %s has the flags %q, want %q", c.CommandPath(), got, want)
		}
		for _, line := range []string{".TH ", ".SH NAME\n", ".SH SYNOPSIS\n", ".SH SEE ALSO\n"} {
			if !strings.Contains(page, line) {
				t.Errorf("the page of %s has no %q", c.CommandPath(), line)
			}
		}
	}
}

// groff accepts every page without a warning.
func TestManPagesAreValid(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test needs groff, and CI=true forbids skipping it")
		}
		t.Skip("this test needs groff (Debian package groff-base)")
	}
	for _, c := range shownCommands() {
		cmd := exec.CommandContext(t.Context(), groff, "-man", "-k", "-ww", "-z")
		cmd.Stdin = strings.NewReader(manpage.Page(c, "1.2.3"))
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", c.CommandPath(), err, out)
		}
	}
}

// Completion of every command lists every flag, and every script uses it.
func TestCompletionHasEveryFlag(t *testing.T) {
	complete := func(args ...string) []string {
		t.Helper()
		root := rootCommand()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetErr(io.Discard)
		root.SetArgs(append([]string{"__complete"}, args...))
		if err := root.Execute(); err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		var words []string
		for line := range strings.Lines(out.String()) {
			word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			words = append(words, word)
		}
		return words
	}
	commands := complete("")
	for _, c := range shownCommands() {
		var words []string
		if c.HasParent() {
			if !slices.Contains(commands, c.Name()) {
				t.Errorf("completion of adit does not list %s", c.Name())
			}
			words = complete(c.Name(), "--")
		} else {
			words = complete("--")
		}
		for _, f := range shownFlags(c) {
			if !slices.Contains(words, f) {
				t.Errorf("completion of %s does not list %s", c.CommandPath(), f)
			}
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		root := rootCommand()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs([]string{"completion", shell})
		if err := root.Execute(); err != nil || !strings.Contains(out.String(), "__complete") {
			t.Errorf("the script for %s: %v\n%.200s", shell, err, out.String())
		}
	}
}
