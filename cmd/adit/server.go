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
		Long: `Accepts clients on one port and connects them to targets, each user to those
that the policy allows. At the paths of routes it connects plain WebSockets, such
as those of browsers, to backends. Everyone else sees an ordinary web site.

It needs a certificate (or --no-tls behind a proxy that has one) and at least
one user, one --route, or an explicit --allow-anonymous TARGET. adit token makes
a user's token. A route without users is open to everyone, and the log says so.

Every flag has a variable (--tls-cert: ADIT_TLS_CERT) and a key in the
configuration file. The flag takes precedence over the variable, and the variable
over the file. Without --config, that is ~/.config/adit/server.toml, except for
root, or else /etc/adit/server.toml, if there is one; the log names the file.

SIGHUP reloads the configuration. The log names settings that require a restart;
an invalid file changes nothing. Either way the audit file is reopened, for
logrotate. SIGTERM drains: open connections may finish within --drain-timeout. A
second SIGTERM, a second later or more, ends the server at once. A terminal
that closes stops it like SIGTERM, unless nohup started it. Exit status: 0 stopped,
1 failed or ended by a second signal, 2 bad configuration.

Rules of a user's allow list, and of --allow-anonymous:
  127.0.0.1:22        10.20.0.0/16:443     db.lan:5432      *.lan:80,443
  [2001:db8::/32]:*   8000-8100 (loopback) unix:/run/a.sock ssh (a [[target]])

Keys of a [[route]], which --route PATH=BACKEND,… takes as ?KEY=VALUE&…:
` + config.RouteHelp(),
		Example: `  adit server --self-signed /var/lib/adit/tls --users users.toml
      a self-signed certificate; clients use the pin that the log shows

  adit server --tls-cert fullchain.pem --tls-key privkey.pem --users users.toml --site /var/www/html
  adit server --acme-domain gw.example.com --users users.toml
  adit server --no-tls --listen 127.0.0.1:8080 --users users.toml
      behind nginx, haproxy or Apache

  adit server --self-signed tls --route '/json=127.0.0.1:9000?frame-type=text' --demo-page /console
      a backend for browsers, open to everyone, and a page to try it with

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
		return configurationIsGood(cmd, d.ConfigFile())
	}
	ctx, reload, release := handleSignals(cmd.Context(), d.Logger())
	defer release()
	ignoreBrokenPipes()
	return d.Run(ctx, reload)
}
