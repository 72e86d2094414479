package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"adit/internal/config"
)

// run runs the program and returns its exit status.
func run(args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	return report(os.Stderr, cmd, err)
}

func rootCommand() *cobra.Command {
	cobra.EnableCommandSorting = false // help lists them in the order of commands()
	root := &cobra.Command{
		Use:   "adit",
		Short: "TCP tunnel and WebSocket gateway on one port",
		Long: `adit tunnels TCP over one WebSocket on port 443, through firewalls and HTTP
proxies, and keeps open connections alive when the link drops. The client listens
locally, the server connects to the targets.`,
		Example: `  adit demo                                    try it on this machine
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

// noArgs is the Args of a command that takes none.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return badUsage("adit "+cmd.Name()+" takes none", "unexpected argument %q", args[0])
	}
	return nil
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
