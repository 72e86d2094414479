package config

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"adit/server"
)

const (
	routeHint = "write PATH=BACKEND, e.g. --route '/json=127.0.0.1:9000', or with options --route '/json=127.0.0.1:9000?frame-type=text&users=alice'"
	maxConns  = 1 << 20
)

// newRoute makes room for one more route.
func (s *Server) newRoute() ([]*setting, int) {
	i := len(s.Routes)
	s.Routes = append(s.Routes, server.Route{})
	// The closures index the slice, which moves when it grows. A def here is
	// only the example for messages.
	at := func() *server.Route { return &s.Routes[i] }
	return []*setting{
		{key: "path", value: into(routePath, func(v string) { at().Path = v })},
		{key: "exact", value: boolInto(func(v bool) { at().Exact = v })},
		{key: "host", value: into(hostName, func(v string) { at().Host = v })},
		{key: "backend", value: listInto(ParseBackend, func(v string) { at().Backends = append(at().Backends, v) })},
		{key: "frame-type", value: into(oneOf("frame type", "binary", "text"), func(v string) { at().FrameType = v })},
		{key: "origins", value: listInto(ParseOrigin, func(v string) { at().Origins = append(at().Origins, v) })},
		{key: "ping-interval", arg: "DURATION", value: into(orNone(time.Second, time.Hour), func(v time.Duration) { at().PingInterval = v })},
		{key: "pong-timeout", arg: "DURATION", value: into(orNone(time.Second, time.Hour), func(v time.Duration) { at().PongTimeout = v })},
		{key: "idle-timeout", arg: "DURATION", value: into(orNone(time.Second, 30*24*time.Hour), func(v time.Duration) { at().IdleTimeout = max(v, 0) })},
		{key: "connect-timeout", arg: "DURATION", value: into(duration(100*time.Millisecond, 5*time.Minute), func(v time.Duration) { at().ConnectTimeout = v })},
		{key: "linger-timeout", arg: "DURATION", value: into(duration(100*time.Millisecond, time.Hour), func(v time.Duration) { at().LingerTimeout = v })},
		{key: "max-conns", def: "1000", value: numberInto(0, maxConns, func(v int) {
			if v == 0 {
				v = -1
			}
			at().MaxConns = v
		})},
		{key: "max-conns-per-address", def: "20", value: numberInto(0, maxConns, func(v int) { at().MaxConnsPerAddress = v })},
		{key: "users", value: listInto(plain, func(v string) { at().Users = append(at().Users, v) })},
		{key: "proxy-protocol", value: into(oneOf("PROXY protocol", "off", "v1", "v2"), func(v string) { at().ProxyProtocol = v })},
	}, i
}

// orNone is duration, except that 0 is accepted and becomes -1: never.
func orNone(low, high time.Duration) func(string) (time.Duration, error) {
	some := duration(low, high)
	return func(s string) (time.Duration, error) {
		if d, err := time.ParseDuration(s); err == nil && d == 0 {
			return -1, nil
		}
		d, err := some(s)
		if err != nil && strings.Contains(err.Error(), "out of range") {
			err = bad("write a duration between "+short(low)+" and "+short(high)+`, or "0s" for never`, "%s", err)
		}
		return d, err
	}
}

// routeFlag is the value of --route: the routes of the file, another way.
type routeFlag struct{ s *Server }

func (f routeFlag) shape() shape { return list }
func (f routeFlag) clear()       { f.s.Routes = nil }

// set reads PATH=BACKEND[,BACKEND…][?KEY=VALUE[&KEY=VALUE…]], where KEY is one
// of [[route]] but path and backend. The items of a list stand between commas
// or come with the key again and again; a %XX in a VALUE is the character. The
// error is Faults, with the keys as origins.
func (f routeFlag) set(text string) error {
	var faults Faults
	main, query, _ := strings.Cut(text, "?")
	path, backends, ok := strings.Cut(main, "=")
	if !ok {
		faults.Add("", bad(routeHint, "%q has no =", text))
		return faults
	}
	element, i := f.s.newRoute()
	wrong := func(key string, err error) { faults.Add(path+": "+key, err) }
	give := func(key string, values ...string) {
		n := slices.IndexFunc(element, func(s *setting) bool { return s.key == key })
		for _, v := range values {
			if err := element[n].value.set(v); err != nil {
				wrong(key, err)
			}
		}
	}
	give("path", path)
	give("backend", strings.Split(backends, ",")...)
	var given []string
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		key, raw, hasValue := strings.Cut(pair, "=")
		n := slices.IndexFunc(element, func(s *setting) bool { return s.key == key })
		switch {
		case n < 0:
			wrong(key, bad(routeKeyHint(key, element), "unknown key"))
			continue
		case key == "path" || key == "backend":
			wrong(key, bad(routeHint, "stands before the ?, not behind it"))
			continue
		case !hasValue && element[n].value.shape() == boolean:
			raw = "true"
		case !hasValue:
			wrong(key, bad("write "+key+"=VALUE", "has no value"))
			continue
		}
		isList := element[n].value.shape() == list
		if slices.Contains(given, key) && !isList {
			wrong(key, bad("write it once", "is there twice"))
			continue
		}
		given = append(given, key)
		values := []string{raw}
		if isList {
			values = strings.Split(raw, ",")
		}
		for _, v := range values {
			plain, err := url.PathUnescape(v)
			if err != nil {
				wrong(key, bad("write % as %25, & as %26 and a comma in an item as %2C", "%q: %s", v, reason(err)))
				continue
			}
			give(key, plain)
		}
	}
	if len(faults) > 0 {
		f.s.Routes = f.s.Routes[:i]
		return faults
	}
	return nil
}

func routeKeyHint(key string, element []*setting) string {
	var keys []string
	for _, s := range element {
		if s.key != "path" && s.key != "backend" {
			keys = append(keys, s.key)
		}
	}
	if m := Nearest(key, keys); m != "" {
		return "did you mean " + m + "?"
	}
	return "the keys are " + strings.Join(keys, ", ")
}

// checkRoutes finds what is wrong between a route and the rest.
func (s *Server) checkRoutes(l *loader) {
	type place struct {
		host, path string
		exact      bool
	}
	seen := map[place]int{}
	for i, r := range s.Routes {
		id := itemID("route", i)
		if r.Path == "" && !l.faulty(id+".") {
			l.faults.Add(l.origin(id), bad(`add path = "/json"`, "has no path"))
		}
		if len(r.Backends) == 0 && !l.faulty(id+".") {
			l.faults.Add(l.origin(id), bad(`add backend = ["127.0.0.1:9000"]`, "route %q has no backend", r.Path))
		}
		if r.Path != "" && r.Path == s.TunnelPath {
			l.faults.Add(l.origin(id+".path"), bad("choose another path for one of the two", "%q is the tunnel's own path", r.Path))
		}
		p := place{strings.ToLower(r.Host), r.Path, r.Exact}
		if first, dup := seen[p]; dup && r.Path != "" {
			l.faults.Add(l.origin(id+".path"), bad("name all backends in one route, or tell the two apart by host or exact", "route %q is there twice: also at %s", r.Path, l.origin(itemID("route", first)+".path")))
		} else {
			seen[p] = i
		}
		s.checkRouteNames(l, id, r)
	}
}

// checkRouteNames finds the users and targets of a route that do not exist.
func (s *Server) checkRouteNames(l *loader, id string, r server.Route) {
	if l.partial {
		return
	}
	var users, targets []string
	for _, u := range s.Users {
		users = append(users, u.Name)
	}
	for _, t := range s.Targets {
		targets = append(targets, t.Name)
	}
	for k, name := range r.Users {
		if slices.Contains(users, name) {
			continue
		}
		hint := `add [[user]] with name = "` + name + `"; adit token ` + name + " makes the token"
		if m := Nearest(name, users); m != "" {
			hint = "did you mean " + m + "?"
		}
		l.faults.Add(l.origin(itemID(id+".users", k)), bad(hint, "route %q: there is no user %q", r.Path, name))
	}
	for k, b := range r.Backends {
		if !IsTargetName(b) || slices.Contains(targets, b) {
			continue
		}
		hint := `write HOST:PORT, e.g. ` + b + `:9000, or add [[target]] with name = "` + b + `"`
		if m := Nearest(b, targets); m != "" {
			hint = "did you mean " + m + "?"
		}
		l.faults.Add(l.origin(itemID(id+".backend", k)), bad(hint, "route %q: there is no target named %q", r.Path, b))
	}
}

// ParseBackend reads where a route leads: HOST:PORT, unix:PATH with an absolute
// path, or the name of a target. It returns the form that server.Route takes.
func ParseBackend(s string) (string, error) {
	if IsTargetName(s) {
		return s, nil
	}
	a, err := ParseTarget(s)
	if err != nil {
		return "", bad("write HOST:PORT, e.g. 127.0.0.1:9000, unix:/run/app.sock, or the name of a [[target]]", "backend %s", quotedOnce(s, err))
	}
	return a.String(), nil
}

// quotedOnce is an error's text, with the whole value before it unless it is
// there already.
func quotedOnce(s string, err error) string {
	if q := strconv.Quote(s); !strings.Contains(err.Error(), q) {
		return q + ": " + err.Error()
	}
	return err.Error()
}

// ParseOrigin checks the origin of a web page as browsers send it,
// scheme://host[:port], or scheme://*.domain[:port] for all subdomains.
func ParseOrigin(s string) (string, error) {
	const hint = "write https://app.example.com, https://*.example.com, or http://localhost:3000"
	scheme, rest, ok := strings.Cut(s, "://")
	switch {
	case s == "*":
		return "", bad("list the sites whose pages may connect: "+hint, "origin %q would let every web page connect", s)
	case s == "null":
		return "", bad("serve the page from a web server: "+hint, "origin %q is that of every file and sandboxed frame", s)
	case !ok:
		return "", bad(`did you mean "https://`+s+`"?`, "origin %q has no scheme", s)
	case scheme == "" || strings.Trim(strings.ToLower(scheme), "abcdefghijklmnopqrstuvwxyz0123456789+-.") != "":
		return "", bad(hint, "origin %q: scheme %q is not one", s, scheme)
	case strings.ContainsAny(rest, "/?#"):
		return "", bad(`write "`+scheme+"://"+rest[:strings.IndexAny(rest, "/?#")]+`"`, "origin %q: an origin has no path, not even a slash", s)
	case strings.Contains(rest, "@"):
		return "", bad(hint, "origin %q: an origin has no user", s)
	}
	host := strings.TrimPrefix(rest, "*.")
	fields, err := splitFields(host)
	if err != nil || len(fields) > 2 {
		return "", bad(hint, "origin %q: %q is not HOST or HOST:PORT", s, rest)
	}
	name, err := parseHost(fields[0], false)
	if err != nil {
		return "", bad(hint, "origin %q: %s", s, err)
	}
	if _, isIP := netip.ParseAddr(name); isIP == nil && host != rest {
		return "", bad(hint, "origin %q: an address has no subdomains", s)
	}
	if len(fields) == 2 {
		if n, err := parsePort(fields[1]); err != nil || n == "0" || n != fields[1] {
			return "", bad(hint, "origin %q: %q is not a port", s, fields[1])
		}
	}
	return s, nil
}

// ParsePrefix reads a network, 10.0.0.0/8, or one address.
func ParsePrefix(s string) (netip.Prefix, error) {
	const hint = "write a network or an address, e.g. 10.0.0.0/8, 192.0.2.7 or fd00::/8"
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, bad(hint, "%q is not a network", s)
	case p.Addr().Is4In6():
		return netip.Prefix{}, bad(hint, "%q: write IPv4 networks as IPv4", s)
	case p.Bits() == 0:
		return netip.Prefix{}, bad(hint, "%q would believe everybody", s)
	case p.Masked() != p:
		return netip.Prefix{}, bad("did you mean "+p.Masked().String()+"?", "%q has bits set beyond the /%d", s, p.Bits())
	}
	return p, nil
}

// siteURL checks where a site lies that another web server answers for.
func siteURL(s string) (string, error) {
	const hint = "write http://127.0.0.1:8080, https://intranet.lan, or unix:/run/site.sock"
	if strings.HasPrefix(s, "unix:") {
		a, _, err := parseUnix(s)
		if err == nil && !strings.HasPrefix(a.Address, "/") {
			err = bad(hint, "%q is not an absolute path", a.Address)
		}
		return a.String(), err
	}
	u, err := url.Parse(s)
	switch {
	case !strings.Contains(s, "://"):
		if !strings.HasPrefix(s, "/") {
			return "", bad("did you mean http://"+redact(s)+"?", "%q is not an http or https URL", redact(s))
		}
		return "", bad(hint, "%q is not an http or https URL", s)
	case err != nil:
		return "", bad(hint, "URL %q %s", redact(s), urlFault(s, err))
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return "", bad(hint, "%q is not an http or https URL", redact(s))
	case u.User != nil:
		return "", bad(hint, "URL %q carries a user name, which has no place here", redact(s))
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", bad(hint, "URL %q has a query or a fragment", redact(s))
	}
	return s, checkURLHost(u, hint)
}

// isSiteURL reports whether --site names another web server, not a directory.
func isSiteURL(s string) bool {
	return strings.HasPrefix(s, "unix:") || strings.Contains(s, "://")
}
