package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"

	"adit/auth"
	"adit/internal/hint"
	"adit/internal/textfile"
)

// passwordCost makes one check of a password take some 150 ms: little for its
// user, much for somebody who tries all passwords.
const passwordCost = 11

// maxPassword is how many bytes bcrypt uses.
const maxPassword = 72

func tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token [NAME]",
		Short: "make a token for a user",
		Long: `Prints TOML on stdout: NAME in a comment, the token, for the client, and its hash,
for the server. The token is 256 random bits. It is not stored, and cannot be
computed from its hash. A file that every user of this machine can read gets no
token: set umask 077.

The client takes the token in a file that only its user can read, named by
--token-file (alone, or as the line token = "…"), or in the variable ADIT_TOKEN.
The server takes the line token-hash = "…" below [[user]].

With --password it reads a password from stdin, one line, and prints only the
line for the server. The client then needs --user NAME, and the password in its
token file.`,
		Example: `  adit token alice
  (umask 077; adit token alice > alice.token)
      the file suits --token-file; its line token-hash goes to the server
  adit token --password bob < password.txt`,
	}
	password := cmd.Flags().Bool("password", false, "hash a password read from stdin instead of making a token")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return badUsage("adit token takes one NAME at most", "unexpected argument %q", args[1])
		}
		if err := checkTokenName(args); err != nil {
			return err
		}
		user := ""
		if len(args) > 0 {
			user = "# user " + args[0] + "\n"
		}
		if !*password {
			if err := checkTokenOutput(cmd.OutOrStdout()); err != nil {
				return err
			}
			t := auth.NewToken()
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%stoken = %q\ntoken-hash = %q\n", user, t, auth.HashToken(t))
			return err
		}
		if len(args) == 0 {
			return badUsage("name the user: adit token --password bob < password.txt", "--password needs the user's NAME")
		}
		secret, err := readPassword(cmd.InOrStdin(), cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		hash, err := bcrypt.GenerateFromPassword([]byte(secret), passwordCost)
		if err != nil {
			return fmt.Errorf("hash the password: %w", err)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%stoken-hash = %q\n", user, hash)
		return err
	}
	return cmd
}

// checkTokenOutput refuses to write a token to a file that every user can read.
func checkTokenOutput(out io.Writer) error {
	f, ok := out.(*os.File)
	if !ok || runtime.GOOS == "windows" { // which has no permission bits
		return nil
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o004 == 0 {
		return nil
	}
	name := "a file"
	if path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err == nil { // on Linux
		name = path
	}
	return badUsage("make it for its owner alone: (umask 077; adit token alice > alice.token); of a file that exists already, chmod 600 changes the mode",
		"standard output is %s, which every user of this machine can read (mode %04o): no token is written", name, info.Mode().Perm())
}

// checkTokenName rejects a name that the server would reject later.
func checkTokenName(args []string) error {
	if len(args) == 0 {
		return nil
	}
	_, err := auth.NewUsers([]auth.User{{Name: args[0], TokenHashes: []string{auth.HashToken("")}}})
	var fault *auth.UserError
	if errors.As(err, &fault) {
		return badUsage(fault.Hint(), "name %q: %w", args[0], fault.Err)
	}
	return nil
}

// readPassword reads one line, without echo from a terminal.
func readPassword(in io.Reader, prompt io.Writer) (string, error) {
	const advice = "type one line, or write adit token --password bob < password.txt"
	if f, ok := in.(*os.File); ok {
		if restore := hideInput(f); restore != nil {
			defer restore()
			fmt.Fprint(prompt, "password: ")
			defer fmt.Fprintln(prompt)
		}
	}
	line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	text, err := textfile.Decode([]byte(line))
	if err != nil {
		return "", badUsage(hint.Of(err), "the password: %w", err)
	}
	line = strings.TrimRight(string(text), "\r\n")
	switch {
	case line == "":
		return "", badUsage(advice, "the password is empty")
	case len(line) < 8:
		return "", badUsage("take a longer one, or use a token: adit token bob", "the password is shorter than 8 characters")
	case len(line) > maxPassword:
		return "", badUsage("take a shorter one", "the password is longer than %d bytes, and bcrypt ignores the rest", maxPassword)
	}
	return line, nil
}
