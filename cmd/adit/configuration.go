package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"adit/internal/config"
)

// checkConfigFlag adds --check-config.
func checkConfigFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("check-config", false, "check the configuration, list every fault, and exit (status 0 or 2)")
}

// configurationIsGood is the answer of --check-config. file is the configuration
// file, "" for none.
func configurationIsGood(cmd *cobra.Command, file string) error {
	text := "the configuration is good"
	if file != "" {
		text += ": " + file
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}

// sources returns where the configuration of a command comes from.
func sources(cmd *cobra.Command, args []string) config.Sources {
	file := cmd.Name()
	if file == "check" { // it reads the client's
		file = "client"
	}
	return config.Sources{
		Flags: cmd.Flags(), Args: args, LookupEnv: os.LookupEnv, Environ: os.Environ(),
		DefaultFiles: config.DefaultFiles(file, os.LookupEnv),
	}
}
