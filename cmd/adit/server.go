package main

import (
	"github.com/spf13/cobra"

	"adit/auth"
	"adit/internal/config"
)

func serverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "server [flags]",
		Short: "run the gateway",
		Long: `Accepts clients on one port and connects them onwards, each user to what the
policy allows. Everyone else sees an ordinary web site there.

It needs a certificate (or --no-tls behind a proxy that has one) and at least
one user, or an explicit --allow-anonymous TARGET. adit token makes a user's
token.

Every flag has a variable (--tls-cert is ADIT_TLS_CERT) and a key in the
configuration file; a flag wins over the variable, the variable over the file.
SIGHUP reads users, targets, certificates and the site again: a bad file changes
nothing and says so. SIGTERM lets live connections finish for --drain-timeout;
a second one ends at once. Exit status: 0 stopped, 1 failed, 2 bad
configuration.

Rules of a user's allow list, and of --allow-anonymous:
  127.0.0.1:22        10.20.0.0/16:443     db.lan:5432      *.lan:80,443
  [2001:db8::/32]:*   8000-8100 (loopback) unix:/run/a.sock ssh (a [[target]])`,
		Example: `  adit server --self-signed /var/lib/adit/tls --users users.toml
      a certificate of its own; clients use the pin that it prints

  adit server --tls-cert fullchain.pem --tls-key privkey.pem --users users.toml --site /var/www/html
  adit server --acme-domain gw.example.com --users users.toml
  adit server --no-tls --listen 127.0.0.1:8080 --users users.toml
      behind nginx, haproxy or Apache

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
      address = "127.0.0.1:22"`,
	}
	config.ServerFlags(cmd.Flags())
	check := checkConfigFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return runServer(cmd, args, *check)
	}
	return cmd
}

func runServer(cmd *cobra.Command, args []string, checkOnly bool) error {
	src := sources(cmd, args)
	cfg, faults := config.LoadServer(src)
	guard := auth.NewGuard(auth.GuardOptions{})
	// With faults already, nothing is created on disk on the way to more.
	p, more := newPlan(cfg, guard, nil, checkOnly || len(faults) > 0)
	if err := append(faults, more...).Err(); err != nil {
		return err
	}
	if checkOnly {
		_, err := cmd.OutOrStdout().Write([]byte("the configuration is good\n"))
		return err
	}
	g := &gateway{src: src, guard: guard, plan: p, log: newLogger(cfg.Log, cmd.ErrOrStderr())}
	return g.run(cmd.Context())
}
