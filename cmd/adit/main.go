// Command adit tunnels TCP over one WebSocket, through firewalls and HTTP proxies.
//
// This package parses command lines, wires packages together and prints. It alone
// ends the process and reads its environment, signals and standard streams.
package main

import (
	"os"

	"github.com/spf13/cobra"

	// WebSockets over HTTP/2 are off in net/http unless this package turns them on
	// before net/http starts.
	_ "adit/internal/extendedconnect"
)

func main() { os.Exit(run(os.Args[1:])) }

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
