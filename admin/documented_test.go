package admin_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"adit/admin"
)

// docs/metrics.md describes every field of /status.
func TestStatusIsDocumented(t *testing.T) {
	e := start(t)
	_, section, _ := strings.Cut(document(t), "## The JSON of /status")
	for _, a := range []*admin.Admin{e.serverAdmin, e.clientAdmin} {
		var d any
		if err := json.Unmarshal([]byte(ask(t, a, "/status").body), &d); err != nil {
			t.Fatal(err)
		}
		for _, name := range fields(d) {
			if !strings.Contains(section, "`"+name+"`") && !strings.Contains(section, "`"+name+"[]`") {
				t.Errorf("docs/metrics.md does not describe %s", name)
			}
		}
	}
}

// fields returns the names of a document's fields, but not the keys of counts by reason or user.
func fields(v any) (names []string) {
	switch v := v.(type) {
	case map[string]any:
		for name, sub := range v {
			names = append(names, name)
			switch name {
			case "sessions_ended", "sessions_refused", "streams_refused", "streams_refused_by_user", "tickets", "handshake_failures", "migration_requests", "connections_rejected", "connections_refused", "users":
			default:
				names = append(names, fields(sub)...)
			}
		}
	case []any:
		for _, sub := range v {
			names = append(names, fields(sub)...)
		}
	}
	return names
}

func document(t *testing.T) string {
	t.Helper()
	return read(t, "metrics.md")
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// documented returns the names of the metrics in docs/metrics.md, in its order.
func documented(t *testing.T) (names []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?m)^\\| `(adit_[a-z_]+)` \\|").FindAllStringSubmatch(document(t), -1) {
		names = append(names, m[1])
	}
	return names
}

// described returns the names of the metrics that an Admin can expose.
func described(a *admin.Admin) (names []string) {
	ch := make(chan *prometheus.Desc)
	go func() { defer close(ch); a.Describe(ch) }()
	for d := range ch {
		names = append(names, regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String())[1])
	}
	return names
}

func TestMetricsAreDocumented(t *testing.T) {
	e := start(t)
	docs := documented(t)
	have := slices.Concat(described(e.serverAdmin), described(e.clientAdmin))
	for _, name := range have {
		if !slices.Contains(docs, name) {
			t.Errorf("docs/metrics.md does not have %s", name)
		}
	}
	for i, name := range docs {
		if !slices.Contains(have, name) {
			t.Errorf("docs/metrics.md has %s, which does not exist", name)
		}
		if slices.Contains(docs[:i], name) {
			t.Errorf("docs/metrics.md has %s twice", name)
		}
	}
}

// The alert rules and the dashboard use existing metrics, labels and label values.
func TestMonitoringUsesMetricsThatExist(t *testing.T) {
	e := start(t)
	e.echoOnce(t)
	docs := documented(t)
	exposed := ask(t, e.serverAdmin, "/metrics").body + ask(t, e.clientAdmin, "/metrics").body
	histogram := regexp.MustCompile(`_(bucket|sum|count)$`)
	for _, file := range []string{"monitoring/adit-alerts.yml", "monitoring/grafana-dashboard.json"} {
		text := strings.ReplaceAll(read(t, file), `\"`, `"`)
		used := regexp.MustCompile(`\b((?:adit|go|process)_[a-z_]+)(\{[^{}]*\})?`).FindAllStringSubmatch(text, -1)
		if len(used) < 10 {
			t.Errorf("%s: only %d metrics are used", file, len(used))
		}
		for _, m := range used {
			name := m[1]
			if strings.HasPrefix(name, "adit_") && !slices.Contains(docs, name) && !(histogram.MatchString(name) && slices.Contains(docs, histogram.ReplaceAllString(name, ""))) {
				t.Errorf("%s: %s does not exist", file, name)
			}
			if !strings.Contains(exposed, "\n"+name+" ") && !strings.Contains(exposed, "\n"+name+"{") {
				t.Errorf("%s: %s is not exposed", file, name)
			}
			for _, l := range regexp.MustCompile(`([a-z]+)\s*(=~?|!=)\s*"([^"]*)"`).FindAllStringSubmatch(m[2], -1) {
				if l[1] == "job" || l[1] == "instance" || l[1] == "role" {
					continue
				}
				for value := range strings.SplitSeq(l[3], "|") {
					if l[2] != "!=" && !regexp.MustCompile(`(?m)^`+name+`\{.*\b`+l[1]+`="`+value+`"`).MatchString(exposed) {
						t.Errorf("%s: %s has no %s=%q", file, name, l[1], value)
					}
				}
			}
		}
		for _, l := range regexp.MustCompile(`by \(([^)]*)\)`).FindAllStringSubmatch(text, -1) {
			for label := range strings.SplitSeq(l[1], ", ") {
				if label != "instance" && label != "le" && !strings.Contains(exposed, label+`="`) {
					t.Errorf("%s: no metric has a label %s", file, label)
				}
			}
		}
	}
	if !json.Valid([]byte(read(t, "monitoring/grafana-dashboard.json"))) {
		t.Error("the dashboard is not JSON")
	}
	// The dashboard or an alert rule uses each metric.
	both := read(t, "monitoring/adit-alerts.yml") + read(t, "monitoring/grafana-dashboard.json")
	for _, name := range docs {
		if !strings.Contains(both, name) && name != "adit_config_last_reload_success_timestamp_seconds" {
			t.Errorf("%s is neither in the dashboard nor in a rule", name)
		}
	}
}
