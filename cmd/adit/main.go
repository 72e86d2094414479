// Command adit tunnels TCP over one WebSocket, through firewalls and HTTP proxies.
//
// This package parses command lines, wires packages together and prints. It alone
// ends the process and reads its environment, signals and standard streams.
package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"adit/internal/config"

	// WebSockets over HTTP/2 are off in net/http unless this package turns them on
	// before net/http starts.
	_ "adit/internal/extendedconnect"
)

func main() { os.Exit(run(os.Args[1:])) }

// run runs the program and returns its exit status.
func run(args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	return report(os.Stderr, cmd, err)
}

// commands returns the subcommands, one file each.
func commands() []*cobra.Command {
	return []*cobra.Command{
		serverCommand(),
		clientCommand(),
		checkCommand(),
		statusCommand(),
		demoCommand(),
		tokenCommand(),
		pinCommand(),
		versionCommand(),
		completionCommand(),
		manCommand(),
	}
}

// rootCommand returns the command line of the whole program.
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
		} else if strings.Contains(args[0], "://") {
			advice = "did you mean adit client, or adit check, with this URL?"
		}
		return badUsage(advice, "unknown command %q", config.Redact(args[0]))
	}
	root.Version = versionText()
	root.SetVersionTemplate(versionLine())
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(commands()...)
	root.SetHelpCommand(helpCommand(root))
	for _, c := range root.Commands() {
		completeValues(c)
	}
	return root
}

func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:               "help [COMMAND]",
		Short:             "show the help of a command",
		ValidArgsFunction: completeCommands,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 && args[0] == root.Name() { // adit help adit server
				args = args[1:]
			}
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return badUsage(theCommands(root), "no help for %q", strings.Join(args, " "))
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}
