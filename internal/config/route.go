package config

import (
	"net/url"
	"slices"
	"strings"

	"adit/server"
)

// routeFlag is --route, another way to write a [[route]] table.
type routeFlag struct{ items[server.Route] }

const routeHint = "write PATH=BACKEND, e.g. --route '/json=127.0.0.1:9000', or with options --route '/json=127.0.0.1:9000?frame-type=text&users=alice'"

// set reads PATH=BACKEND[,BACKEND…][?KEY=VALUE[&KEY=VALUE…]], where KEY is one
// of [[route]] but path and backend. The items of a list stand between commas,
// or the key is repeated; %XX in a VALUE is a character. The error is Faults,
// with the keys as origins.
func (f routeFlag) set(text string) error {
	main, query, _ := strings.Cut(text, "?")
	path, backends, ok := strings.Cut(main, "=")
	if !ok {
		return Faults{{Err: bad(routeHint, "%q has no =", text)}}
	}
	r := new(server.Route)
	o := routeOptions{path: path, settings: routeSettings(r)}
	o.set("path", path)
	for b := range strings.SplitSeq(backends, ",") {
		o.set("backend", b)
	}
	for pair := range strings.SplitSeq(query, "&") {
		if pair != "" {
			o.pair(pair)
		}
	}
	if len(o.faults) > 0 {
		return o.faults
	}
	*f.to = append(*f.to, *r)
	return nil
}

// routeOptions reads the parts of one --route.
type routeOptions struct {
	path     string
	settings []*setting
	given    []string // keys so far
	faults   Faults
}

func (o *routeOptions) fault(key string, err error) { o.faults.Add(o.path+": "+key, err) }

func (o *routeOptions) set(key, text string) {
	if err := find(o.settings, key).to.set(text); err != nil {
		o.fault(key, err)
	}
}

// pair reads KEY=VALUE, or KEY alone for true.
func (o *routeOptions) pair(pair string) {
	key, raw, hasValue := strings.Cut(pair, "=")
	s := find(o.settings, key)
	switch {
	case s == nil:
		o.fault(key, bad(o.suggest(key), "unknown key"))
		return
	case key == "path" || key == "backend":
		o.fault(key, bad(routeHint, "stands before the ?, not behind it"))
		return
	case !hasValue && s.to.kind() == kindBoolean:
		raw = "true"
	case !hasValue:
		o.fault(key, bad("write "+key+"=VALUE", "has no value"))
		return
	}
	values := []string{raw}
	if s.to.kind() == kindList {
		values = strings.Split(raw, ",")
	} else if slices.Contains(o.given, key) {
		o.fault(key, bad("write it once", "is given twice"))
		return
	}
	o.given = append(o.given, key)
	for _, v := range values {
		plain, err := url.PathUnescape(v)
		if err != nil {
			o.fault(key, bad("write % as %25, & as %26 and a comma in an item as %2C", "%q: %s", v, reason(err)))
			continue
		}
		o.set(key, plain)
	}
}

func (o *routeOptions) suggest(key string) string {
	var keys []string
	for _, s := range o.settings {
		if s.key != "path" && s.key != "backend" {
			keys = append(keys, s.key)
		}
	}
	return didYouMean(key, keys, "the keys are "+strings.Join(keys, ", "))
}
