package config

import (
	"regexp"
	"slices"
	"strings"
)

// refuseUnknownVariables reports variables whose names begin with ADIT_ and mean
// nothing to adit. A variable of the other command is none: both may run in one
// environment.
func (l *loader) refuseUnknownVariables(doc *schema, environ []string) {
	own := variables(doc)
	known := slices.Concat(variables(new(Server).schema()), variables(new(Client).schema()))
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, variablePrefix) || value == "" || slices.Contains(known, strings.TrimPrefix(name, variablePrefix)) || ofOrchestrator(name, value) {
			continue
		}
		advice := "unset it; adit help " + doc.command + " lists the flags, and --token-file is ADIT_TOKEN_FILE"
		if m := Nearest(strings.TrimPrefix(name, variablePrefix), own); m != "" {
			advice = "did you mean " + variablePrefix + m + "?"
		}
		l.faults.Add(name, bad(advice, "unknown variable"))
	}
}

const variablePrefix = "ADIT_"

// variables returns the names of the environment variables that a schema has,
// without the prefix.
func variables(doc *schema) []string {
	var names []string
	for _, s := range append(doc.settings, configFile) {
		if name, ok := strings.CutPrefix(s.envName(), variablePrefix); ok {
			names = append(names, name)
		}
	}
	return names
}

// discovery matches the variables that Kubernetes sets in every container for a
// service whose name begins with adit, and docker for a link.
var discovery = regexp.MustCompile(`^ADIT_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// ofOrchestrator reports whether a variable describes a service of this name to
// others.
func ofOrchestrator(name, value string) bool {
	return discovery.MatchString(name) || strings.HasSuffix(name, "_PORT") && strings.Contains(value, "://")
}
