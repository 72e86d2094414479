package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"adit/internal/manpage"
)

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man [COMMAND]",
		Short: "print a manual page, for man -l",
		Long: `Prints the manual page of adit, or of one of its commands, as troff source.
The packages install these pages.`,
		Example: `  adit man client | man -l -
  adit man server > /usr/local/share/man/man1/adit-server.1`,
		ValidArgsFunction: completeCommands,
		RunE: func(cmd *cobra.Command, args []string) error {
			page, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return badUsage(theCommands(cmd.Root()), "no manual page for %q", strings.Join(args, " "))
			}
			_, err = io.WriteString(cmd.OutOrStdout(), manpage.Page(page, versionText()))
			return err
		},
	}
}
