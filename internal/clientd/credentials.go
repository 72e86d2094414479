package clientd

import (
	"encoding/base64"
	"os"
	"regexp"
	"sync"

	"adit/internal/config"
	"adit/internal/hint"
)

// authorization returns a function that reads the credentials for each connection,
// so that a new token needs no restart.
func authorization(c *config.Client) func() (string, error) {
	read := func() (config.Secret, error) { return c.Token, nil }
	if c.TokenFile != "" {
		read = func() (config.Secret, error) { return config.ReadSecret(c.TokenFile) }
		if st, err := os.Stat(c.TokenFile); err == nil && !st.Mode().IsRegular() {
			read = sync.OnceValues(read) // a pipe has it once: --token-file <(pass show gw)
		}
	}
	return func() (string, error) {
		secret, err := read()
		if err != nil {
			return "", err
		}
		switch {
		case secret == "":
			return "", nil
		case c.User == "" && !bearerToken.MatchString(string(secret)):
			return "", errToken
		case c.User != "":
			return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.User+":"+string(secret))), nil
		}
		return "Bearer " + string(secret), nil
	}
}

// bearerToken matches what a header can carry as a token. RFC 6750 allows less, but
// the server decides what it accepts.
var bearerToken = regexp.MustCompile(`^[!-~]+$`)

var errToken = hint.Errorf(
	"give the token alone, as adit token prints it between the quotes; for a password add --user NAME",
	"this is not a token: it contains spaces or characters that tokens do not have")
