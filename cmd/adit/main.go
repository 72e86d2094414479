// Command adit carries TCP connections through one WebSocket connection, past
// firewalls and proxies.
package main

import (
	"os"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:])) }

// commands are what adit can do, one file each.
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
