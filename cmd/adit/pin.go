package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"adit/certs"
	"adit/internal/config"
	"adit/internal/hint"
	"adit/internal/textfile"
)

func pinCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pin HOST[:PORT] | FILE",
		Short: "print the pin of a server's key",
		Long: `Prints the SHA-256 of the public key of a server, or of the first certificate in
a PEM file, as adit client --pin takes it. Details of the certificate go to
stderr.

A pin that comes over the network is only as trustworthy as the network: compare
it with the one in the server's log, or take it from the file.`,
		Example: `  adit pin gw.example.com
  adit pin gw.example.com:8443
  adit pin /var/lib/adit/tls/cert.pem
  adit client --pin "$(adit pin cert.pem)" -L 2222:ssh wss://gw.example.com/tunnel`,
	}
	serverName := cmd.Flags().String("server-name", "", "name to ask for (SNI), instead of HOST")
	timeout := durationFlag(cmd.Flags(), "timeout", 10*time.Second, "give up after this long")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return badUsage("write adit pin gw.example.com, or adit pin cert.pem", "name one server or file")
		}
		var cert *x509.Certificate
		var err error
		if isFile(args[0]) {
			cert, err = certFromFile(args[0])
		} else {
			cert, err = certFromServer(cmd.Context(), args[0], *serverName, *timeout)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "subject %s, issuer %s, expires %s\n", quoteName(cert.Subject.String()), quoteName(cert.Issuer.String()), cert.NotAfter.Format(time.DateOnly))
		_, err = fmt.Fprintln(cmd.OutOrStdout(), certs.PinOf(cert))
		return err
	}
	return cmd
}

// quoteName quotes text from a certificate, so that it is safe to print.
func quoteName(s string) string { return fmt.Sprintf("%q", s) }

// isFile reports whether the argument means a file: it has a slash but is not a
// URL, or such a file exists.
func isFile(arg string) bool {
	if strings.Contains(arg, "/") && !strings.Contains(arg, "://") {
		return true
	}
	_, err := os.Stat(arg)
	return err == nil
}

func certFromFile(name string) (*x509.Certificate, error) {
	const advice = "name a PEM file that has a line -----BEGIN CERTIFICATE-----"
	data, err := textfile.Read(name, 1<<20)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, badUsage("check the path; for a server write adit pin gw.example.com", "%w", err)
		}
		return nil, badUsage(cmp.Or(hint.Of(err), advice), "%w", err)
	}
	cert, err := certs.ParseFirst(name, data)
	if err != nil {
		return nil, &usageError{err}
	}
	return cert, nil
}

// certFromServer fetches a server's certificate without verifying it: the user
// compares the pin.
func certFromServer(ctx context.Context, arg, serverName string, timeout time.Duration) (*x509.Certificate, error) {
	addr, err := pinAddress(arg)
	if err != nil {
		return nil, err
	}
	if serverName == "" {
		serverName, _, _ = net.SplitHostPort(addr)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cert, err := certs.Fetch(ctx, addr, serverName)
	if err != nil {
		return nil, hint.With(err, "check the address; behind a proxy, adit check prints the pin too")
	}
	return cert, nil
}

// pinAddress reads HOST, HOST:PORT or a URL.
func pinAddress(arg string) (string, error) {
	const advice = "write adit pin gw.example.com, adit pin gw.example.com:8443 or adit pin cert.pem"
	if _, rest, ok := strings.Cut(arg, "://"); ok { // the URL of adit client
		arg = rest[strings.LastIndexByte(rest, '@')+1:] // a password is not shown
		if i := strings.IndexAny(arg, "/?#"); i >= 0 {
			arg = arg[:i]
		}
	}
	withPort := arg
	if i := strings.LastIndexByte(arg, ':'); i < 0 || strings.HasSuffix(arg, "]") {
		withPort = arg + ":443"
	}
	addr, err := config.ParseHostPort(withPort)
	if err != nil {
		return "", badUsage(advice, "%q: %w", arg, err)
	}
	return addr, nil
}
