package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"adit/internal/config"
)

// completeValues makes the shell complete the values of a command's flags: words where there are a few, directories
// and files where the flag takes them, and nothing otherwise.
func completeValues(cmd *cobra.Command) {
	if cmd.ValidArgsFunction == nil && cmd.ValidArgs == nil && cmd.Name() != "pin" { // which takes a file
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		complete := cobra.NoFileCompletions
		switch choices := f.Annotations[config.ChoicesAnnotation]; {
		case len(choices) > 0:
			complete = cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp)
		case f.Name == "config":
			complete = extension("toml")
		case f.Value.Type() == "DIR":
			complete = onlyDirectories
		case f.Value.Type() == "bool", f.Value.Type() == "FILE", f.Value.Type() == "DIR|URL":
			return // the shell's own: files
		}
		cmd.RegisterFlagCompletionFunc(f.Name, complete) // fails only if it was called before
	})
}

func extension(name string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{name}, cobra.ShellCompDirectiveFilterFileExt
	}
}

func onlyDirectories(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// completeCommands completes the name of a command, for adit help and adit man.
func completeCommands(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, c := range cmd.Root().Commands() {
		if len(args) == 0 && c.IsAvailableCommand() {
			names = append(names, c.Name()+"\t"+c.Short)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
