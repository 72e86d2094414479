package serverd

import (
	"errors"
	"strconv"

	"adit/auth"
	"adit/internal/config"
	"adit/internal/hint"
	"adit/server"
)

// readAccess reads users, rules, targets and routes.
func readAccess(cfg *config.Server, passwords *auth.PasswordLimiter, faults *config.Faults) server.Access {
	users, err := auth.NewUsers(cfg.Users, auth.WithPasswordLimiter(passwords))
	for _, e := range unjoin(err) {
		faults.Add(userOrigin(cfg, e), e)
	}
	for i, rule := range cfg.AllowAnonymous {
		if _, err := auth.ParseRule(rule); err != nil {
			faults.Add(cfg.Origin(indexed("allow-anonymous", i)), err)
		}
	}
	targets := map[string]string{}
	for _, t := range cfg.Targets {
		targets[t.Name] = t.Address.String()
	}
	return server.Access{Users: users, Targets: targets, Anonymous: cfg.AllowAnonymous, Routes: cfg.Routes, MaxStreams: cfg.MaxStreams, TrustedProxies: cfg.TrustedProxies}
}

// userOrigin returns the place of a setting that auth finds wrong.
func userOrigin(cfg *config.Server, err error) string {
	var fault *auth.UserError
	if !errors.As(err, &fault) {
		return "user"
	}
	key := indexed("user", fault.Index) + "." + fault.Field
	var rule *auth.RuleError
	if errors.As(err, &rule) {
		for i, r := range cfg.Users[fault.Index].Allow {
			if r == rule.Rule {
				return cfg.Origin(indexed(key, i))
			}
		}
	}
	return cfg.Origin(key)
}

// checkRoutes returns the faults that the server finds in the routes.
func checkRoutes(cfg *config.Server, access server.Access) config.Faults {
	if len(access.Routes) == 0 {
		return nil
	}
	_, err := server.New(server.Config{TunnelPath: cfg.TunnelPath}, access)
	return accessFaults(cfg, err)
}

// accessFaults turns the server's errors about users, targets and routes into
// faults at the place of the setting.
func accessFaults(cfg *config.Server, err error) config.Faults {
	var faults config.Faults
	for _, e := range unjoin(err) {
		var fault *server.RouteError
		if !errors.As(e, &fault) {
			faults.Add("configuration", e)
			continue
		}
		key := indexed("route", fault.Index) + "." + fault.Field
		faults.Add(cfg.Origin(key), hint.Errorf("adit help server shows routes", "route %q: %w", fault.Path, fault.Err))
	}
	return faults
}

// indexed names an item of a list in the configuration.
func indexed(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }

// unjoin returns the errors inside an errors.Join, or err alone.
func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}
