package main

import (
	"errors"
	"fmt"
	"io"
	"os"
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
	exitUsage  = 2 // the command line or the configuration is at fault
)

// run is the whole program but for os.Exit.
func run(args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	return report(os.Stderr, cmd, err)
}

func rootCommand() *cobra.Command {
	cobra.EnableCommandSorting = false // the order of commands() is that of use
	root := &cobra.Command{
		Use:   "adit",
		Short: "carry TCP through one WebSocket connection",
		Long: `adit carries TCP connections through one WebSocket connection on port 443, past
firewalls and proxies: a client listens locally, a server connects onwards.`,
		Example: `  adit demo                                    see it work on this machine
  adit token alice                             make a token
  adit server --config /etc/adit/server.toml   run the gateway
  adit client -L 5432:db.lan:5432 --token-file token wss://gw.example.com/tunnel
  ssh -o ProxyCommand='adit client --token-file token -W %h:%p wss://gw.example.com/tunnel' host
  adit check --token-file token wss://gw.example.com/tunnel`,
		Args:                       cobra.ArbitraryArgs,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
	}
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return badUsage(theCommands(root), "no command is given")
		}
		advice := theCommands(root)
		if s := root.SuggestionsFor(args[0]); len(s) > 0 {
			advice = "did you mean adit " + s[0] + "?"
		}
		return badUsage(advice, "unknown command %q", args[0])
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(commands()...)
	root.SetHelpCommand(helpCommand(root))
	return root
}

// theCommands is a hint that lists them.
func theCommands(root *cobra.Command) string {
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return "the commands are " + strings.Join(names, ", ")
}

func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "show the help of a command",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return badUsage(theCommands(root), "no help for %q", strings.Join(args, " "))
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// usageError is a mistake in the command line: it ends with exit status 2 and an
// example.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// badUsage makes a usageError with a hint.
func badUsage(advice, format string, args ...any) error {
	return &usageError{hint.Errorf(advice, format, args...)}
}

// reported is an error that the user has already been told of.
type reported struct{ error }

func (e *reported) Unwrap() error { return e.error }

// flagError makes a usageError of what pflag says.
func flagError(cmd *cobra.Command, err error) error {
	fault, advice := err.Error(), "adit help "+cmd.Name()+" lists the flags"
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

// flagHint shows how a flag is written.
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
	switch name {
	case "admin":
		return "write --admin-listen unix:/run/adit/admin.sock; adit status --admin asks there"
	case "token", "password", "secret", "auth":
		return "a secret on the command line can be read by everyone on this machine: put it into a file and use --token-file FILE, or set ADIT_TOKEN"
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
	return "adit help " + cmd.Name() + " lists the flags"
}

// dashed writes a flag as it was given.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return badUsage("adit "+cmd.Name()+" takes none", "unexpected argument %q", args[0])
	}
	return nil
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
	if cmd.HasParent() {
		fmt.Fprintf(w, "more:    adit help %s\n", cmd.Name())
	} else {
		fmt.Fprintf(w, "more:    adit help\n")
	}
	return exitUsage
}

func printFault(w io.Writer, name string, err error) {
	fmt.Fprintf(w, "%s: %v\n", name, err)
	if h := hint.Of(err); h != "" {
		fmt.Fprintf(w, "  hint: %s\n", h)
	}
}

// firstExample is the first line of the command's examples, without what is
// said about it.
func firstExample(cmd *cobra.Command) string {
	line, _, _ := strings.Cut(strings.TrimSpace(cmd.Example), "\n")
	line, _, _ = strings.Cut(line, "   ")
	return line
}

// checkConfigFlag adds --check-config.
func checkConfigFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("check-config", false, "check the configuration, list every fault, and exit (status 0 or 2)")
}

// configurationIsGood is the answer of --check-config.
func configurationIsGood(cmd *cobra.Command) error {
	_, err := fmt.Fprintln(cmd.OutOrStdout(), "the configuration is good")
	return err
}

// sources returns where the configuration of a command comes from.
func sources(cmd *cobra.Command, args []string) config.Sources {
	return config.Sources{Flags: cmd.Flags(), Args: args, LookupEnv: os.LookupEnv}
}
