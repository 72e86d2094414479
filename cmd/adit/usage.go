package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"adit/internal/config"
	"adit/internal/hint"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2 // bad command line or configuration
)

// usageError is a mistake in the command line. report prints an example below it
// and returns exitUsage.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// badUsage makes a usageError with a hint.
func badUsage(advice, format string, args ...any) error {
	return &usageError{hint.Errorf(advice, format, args...)}
}

// noArgs is the Args of a command that takes none.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return badUsage("adit "+cmd.Name()+" takes none", "unexpected argument %q", config.Redact(args[0]))
	}
	return nil
}

// theCommands returns a hint that lists the commands.
func theCommands(root *cobra.Command) string {
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return "the commands are " + strings.Join(names, ", ")
}

// reported is an error that has already been printed.
type reported struct{ error }

func (e *reported) Unwrap() error { return e.error }

// flagError makes a usageError of an error of pflag.
func flagError(cmd *cobra.Command, err error) error {
	fault, advice := err.Error(), helpOf(cmd)+" lists the flags"
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		fault = "unknown flag " + dashed(unknown.GetSpecifiedName())
		advice = unknownFlagHint(cmd, unknown.GetSpecifiedName())
	case errors.As(err, &missing):
		fault = "flag " + dashed(missing.GetSpecifiedName()) + " needs a value"
		advice = flagHint(missing.GetFlag())
	case errors.As(err, &invalid):
		advice = flagHint(invalid.GetFlag())
	}
	return badUsage(advice, "%s", fault)
}

// flagHint shows how to write a flag.
func flagHint(f *pflag.Flag) string {
	if f.Value.Type() == "bool" {
		return fmt.Sprintf("write --%s alone: %s", f.Name, f.Usage)
	}
	example := strings.ToUpper(f.Value.Type())
	if f.DefValue != "" && f.DefValue != "[]" {
		example = f.DefValue
	}
	return fmt.Sprintf("write --%s %s: %s", f.Name, example, f.Usage)
}

func unknownFlagHint(cmd *cobra.Command, name string) string {
	if advice := foreignFlag(cmd, name); advice != "" {
		return advice
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if m := config.Nearest(name, names); m != "" {
		return "did you mean --" + m + "?"
	}
	return helpOf(cmd) + " lists the flags"
}

// helpOf returns the command that shows the help of a command.
func helpOf(cmd *cobra.Command) string {
	if !cmd.HasParent() {
		return "adit help"
	}
	return "adit help " + cmd.Name()
}

// dashed returns a flag as it was given.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// report prints an error with its hint and returns the exit status.
func report(w io.Writer, cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	name := cmd.CommandPath()
	var faults config.Faults
	var usage *usageError
	switch {
	case errors.As(err, &faults):
		for _, f := range faults {
			printFault(w, name, f)
		}
	case errors.As(err, &usage):
		printFault(w, name, err)
	default:
		var told *reported
		if !errors.As(err, &told) {
			printFault(w, name, err)
		}
		return exitFailed
	}
	if example := firstExample(cmd); example != "" {
		fmt.Fprintf(w, "\nexample: %s\n", example)
	}
	fmt.Fprintf(w, "more:    %s\n", helpOf(cmd))
	return exitUsage
}

func printFault(w io.Writer, name string, err error) {
	fmt.Fprintf(w, "%s: %v\n", name, err)
	if h := hint.Of(err); h != "" {
		fmt.Fprintf(w, "  hint: %s\n", h)
	}
}

// firstExample returns the first line of a command's examples, without its
// explanation.
func firstExample(cmd *cobra.Command) string {
	line, _, _ := strings.Cut(strings.TrimSpace(cmd.Example), "\n")
	line, _, _ = strings.Cut(line, "   ")
	return line
}
