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

// configurationIsGood is the answer of --check-config.
func configurationIsGood(cmd *cobra.Command) error {
	_, err := fmt.Fprintln(cmd.OutOrStdout(), "the configuration is good")
	return err
}

// sources returns where the configuration of a command comes from.
func sources(cmd *cobra.Command, args []string) config.Sources {
	return config.Sources{Flags: cmd.Flags(), Args: args, LookupEnv: os.LookupEnv}
}
