package main

import "github.com/spf13/cobra"

const (
	inBackground = "adit stays in the foreground: end the command with &, or run it as a service, e.g. systemd-run --user adit client …"
	secretInFile = "a secret on the command line can be read by everyone on this machine: put it into a file and use --token-file FILE, or set ADIT_TOKEN"
	localForward = "write -L 5432:db.lan:5432; adit help client shows the forms"
	notReverse   = "reverse forwards come with a later version; run the client on the other side and use -L there"
)

// foreignFlags say what to write instead of the flags of ssh, chisel, wstunnel and
// others.
var foreignFlags = map[string]string{
	"admin":    "write --admin-listen unix:/run/adit/admin.sock; adit status --admin asks there",
	"token":    secretInFile,
	"password": secretInFile,
	"secret":   secretInFile,
	"auth":     secretInFile,

	"f":       inBackground,
	"d":       inBackground + "; for debug messages write --log-level debug",
	"daemon":  inBackground,
	"v":       "write --log-level debug",
	"verbose": "write --log-level debug",
	"q":       "write --log-level error",
	"quiet":   "write --log-level error",

	"fingerprint":     "write --pin sha256:…, as adit pin gw.example.com prints it",
	"tls-skip-verify": "write --pin sha256:…, as adit pin gw.example.com prints it, or --ca FILE",
	"k":               "write --pin sha256:…, as adit pin gw.example.com prints it, or --ca FILE",
	"insecure":        "write --pin sha256:…, as adit pin gw.example.com prints it, or --ca FILE",
	"keepalive":       "write --ping-interval DURATION; 20s is the default",
	"local-to-remote": localForward,
	"remote-to-local": notReverse,
	"http-proxy":      "write --proxy http://proxy.corp:3128",
}

// foreignFlagsOf are those whose meaning depends on the command.
var foreignFlagsOf = map[string]map[string]string{
	"client": {
		"g":                        "write the address into the forward: -L '*:8080:db.lan:80' also accepts other machines",
		"p":                        "the port is in the URL: wss://gw.example.com:8443",
		"port":                     "the port is in the URL: wss://gw.example.com:8443",
		"hostname":                 "write --host NAME",
		"sni":                      "write --server-name NAME",
		"http-upgrade-path-prefix": "the path is in the URL: wss://gw.example.com/tunnel",
	},
	"server": {
		"p":                        "write --listen :8443",
		"port":                     "write --listen :8443",
		"host":                     "write --listen 192.0.2.10:443",
		"authfile":                 "write --users users.toml; adit token NAME makes a user",
		"backend":                  "write --site http://127.0.0.1:8080",
		"tls-domain":               "write --acme-domain gw.example.com",
		"reverse":                  notReverse,
		"restrict-to":              `write allow = ["db.lan:5432"] below [[user]]`,
		"http-upgrade-path-prefix": "write --tunnel-path /tunnel",
	},
}

// foreignFlag returns the hint for a flag that another program has, or "".
func foreignFlag(cmd *cobra.Command, name string) string {
	of := cmd.Name()
	if of == "check" { // it has the client's flags
		of = "client"
	}
	if advice := foreignFlagsOf[of][name]; advice != "" {
		return advice
	}
	if of == "client" || of == "server" {
		return foreignFlags[name]
	}
	return ""
}

// acceptNoCommand adds ssh's -N, which asks for what adit does anyway.
func acceptNoCommand(cmd *cobra.Command) {
	cmd.Flags().BoolP("no-command", "N", false, "accepted for ssh's sake: there is no remote command")
	cmd.Flags().Lookup("no-command").Hidden = true
}
