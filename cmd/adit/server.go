package main

import (
	"os"

	"github.com/spf13/cobra"

	"adit/internal/config"
	"adit/internal/serverd"
)

func serverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "server [flags]",
		Short: "run the gateway",
		Long: `Accepts clients on one port and connects them onwards, each user to what the
policy allows; connects plain WebSockets, a browser's say, at the paths of
routes to backends. Everyone else sees an ordinary web site there.

It needs a certificate (or --no-tls behind a proxy that has one) and at least
one user, one --route, or an explicit --allow-anonymous TARGET. adit token makes
a user's token. A route without users is open to everyone: the log says so.

Flags have variables (--tls-cert is ADIT_TLS_CERT) and keys in the
configuration file; a flag wins over the variable, the variable over the file.
SIGHUP reads the configuration again and puts it into force at once; a change
that takes a restart is named in the log, and a bad file changes nothing and says
so. In both cases the audit file is opened anew, for logrotate. SIGTERM lets live
connections finish for --drain-timeout; a second one ends at once. Exit status:
0 stopped, 1 failed or ended by a second signal, 2 bad configuration.

Rules of a user's allow list, and of --allow-anonymous:
  127.0.0.1:22        10.20.0.0/16:443     db.lan:5432      *.lan:80,443
  [2001:db8::/32]:*   8000-8100 (loopback) unix:/run/a.sock ssh (a [[target]])

Keys of a [[route]], which --route PATH=BACKEND,… takes as ?KEY=VALUE&…:
` + config.RouteHelp(),
		Example: `  adit server --self-signed /var/lib/adit/tls --users users.toml
      a certificate of its own; clients use the pin that it prints

  adit server --tls-cert fullchain.pem --tls-key privkey.pem --users users.toml --site /var/www/html
  adit server --acme-domain gw.example.com --users users.toml
  adit server --no-tls --listen 127.0.0.1:8080 --users users.toml
      behind nginx, haproxy or Apache

  adit server --self-signed tls --route '/json=127.0.0.1:9000?frame-type=text' --demo-page /console
      a backend for browsers, open to all, and a page to try it with

  adit server --config /etc/adit/server.toml --check-config
      with a configuration file such as

      listen = [":443"]
      [tls]
      cert = "/etc/adit/fullchain.pem"
      key = "/etc/adit/privkey.pem"
      [[user]]
      name = "alice"
      token-hash = "sha256:…"        # adit token alice
      allow = ["ssh", "*.lan:80,443"]
      [[target]]
      name = "ssh"
      address = "127.0.0.1:22"
      [[route]]
      path = "/json"
      backend = ["127.0.0.1:9000"]
      origins = ["https://app.example.com"]
      users = ["alice"]`,
	}
	config.ServerFlags(cmd.Flags())
	check := checkConfigFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return runServer(cmd, args, *check)
	}
	return cmd
}

func runServer(cmd *cobra.Command, args []string, checkOnly bool) error {
	d, err := serverd.New(serverd.Options{
		Sources: sources(cmd, args), Getenv: os.Getenv, Version: versionText(), CheckOnly: checkOnly,
		Stdout: os.Stdout, Stderr: os.Stderr,
	})
	if err != nil {
		return err
	}
	if checkOnly {
		return configurationIsGood(cmd)
	}
	ctx, reload, release := handleSignals(cmd.Context(), d.Logger())
	defer release()
	ignoreBrokenPipes()
	return d.Run(ctx, reload)
}
