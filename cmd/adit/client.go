package main

import (
	"os"

	"github.com/spf13/cobra"

	"adit/internal/clientd"
	"adit/internal/config"
	"adit/internal/diagnose"
)

func clientCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "client [flags] wss://HOST[:PORT][/PATH] ...",
		Short: "listen locally and connect through a server",
		Long: `Listens on local ports and sockets, and tunnels each connection to its target
over one WebSocket to the server. It reconnects indefinitely with backoff, and
new connections wait for the link up to --link-wait. With -W, however, the first
attempt has to succeed. A forward listens on both loopback addresses, 127.0.0.1
and [::1], unless it names an address; the form '*:8080:…', and as with ssh
':8080:…', also accepts other machines, and 0.0.0.0 those with IPv4.

Several servers are tried in order. Every flag has a variable (--token-file:
ADIT_TOKEN_FILE) and a key in the configuration file. The flag takes precedence
over the variable, and the variable over the file. Without --config, that is
~/.config/adit/client.toml, except for root, or else /etc/adit/client.toml, if
there is one; the log names the file. SIGHUP tests the link at once; with -W it
ends the client, as SIGTERM does. A terminal that closes ends the client, too,
unless nohup started it.

The token comes from --token-file or the variable ADIT_TOKEN, never from a flag,
which every user of this machine could read. Exit status: 0 stopped, 1 failed,
2 bad configuration.`,
		Example: `  adit client -L 5432:db.lan:5432 --token-file token wss://gw.example.com/tunnel
      psql -h 127.0.0.1 then reaches db.lan, a name that the server resolves

  adit client -L 8080 --token-file token wss://gw.example.com
      port 8080 of the server's own loopback, on the same port here

  adit client -L 2222:ssh -L '*:8080:10.0.0.5:80' --token-file token wss://gw.example.com
      a target that the server defines, and a port open to the local network

  adit client -L /run/db.sock:/run/postgresql/.s.PGSQL.5432 --config client.toml
      unix sockets on both sides

  ssh -o ProxyCommand='adit client --token-file token -W %h:%p wss://gw.example.com' host
      without a local port

  HTTPS_PROXY=http://proxy.corp:3128 adit client --config /etc/adit/client.toml
      through an HTTP proxy, with a configuration file such as

      server = ["wss://gw.example.com/tunnel"]
      token-file = "/etc/adit/token"
      forward = ["2222:ssh", "127.0.0.1:5432:db.lan:5432"]
      [tls]
      pin = ["sha256:…"]          # of a self-signed server: adit pin`,
	}
	config.ClientFlags(cmd.Flags())
	acceptNoCommand(cmd)
	check := checkConfigFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return runClient(cmd, args, *check)
	}
	return cmd
}

func runClient(cmd *cobra.Command, args []string, checkOnly bool) error {
	d, err := clientd.New(clientd.Options{
		Sources: sources(cmd, args), Getenv: os.Getenv, Version: versionText(),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	})
	if err != nil {
		return err
	}
	if checkOnly {
		return configurationIsGood(cmd, d.ConfigFile())
	}
	ctx, reload, release := handleSignals(cmd.Context(), d.Logger())
	defer release()
	ignoreBrokenPipes()
	return diagnose.ExplainRefusal(d.Run(ctx, reload))
}
