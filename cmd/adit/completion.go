package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func completionCommand() *cobra.Command {
	generators := map[string]func(*cobra.Command, io.Writer) error{
		"bash":       func(c *cobra.Command, w io.Writer) error { return c.GenBashCompletionV2(w, true) },
		"zsh":        func(c *cobra.Command, w io.Writer) error { return c.GenZshCompletion(w) },
		"fish":       func(c *cobra.Command, w io.Writer) error { return c.GenFishCompletion(w, true) },
		"powershell": func(c *cobra.Command, w io.Writer) error { return c.GenPowerShellCompletionWithDesc(w) },
	}
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "print a completion script for bash, zsh, fish or powershell",
		Long:  "Prints a script that makes the shell complete adit's commands and flags.",
		Example: `  adit completion bash > /etc/bash_completion.d/adit
  adit completion zsh > "${fpath[1]}/_adit"
  adit completion fish > ~/.config/fish/completions/adit.fish`,
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			advice := "write one of " + strings.Join(shells, ", ")
			if len(args) != 1 {
				return badUsage(advice, "name one shell")
			}
			generate, ok := generators[args[0]]
			if !ok {
				return badUsage(advice, "no completion for shell %q", args[0])
			}
			return generate(cmd.Root(), cmd.OutOrStdout())
		},
	}
}
