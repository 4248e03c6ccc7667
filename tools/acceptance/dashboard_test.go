package acceptance

import (
	"encoding/json"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/goccy/go-yaml"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// fromPrometheus are the labels that Prometheus gives to what it scrapes.
var fromPrometheus = []string{"job", "instance", model.MetricNameLabel}

// series is a metric as expressions name it.
type series struct {
	kind   dto.MetricType
	labels []string
}

// findSeries returns what a name in an expression stands for: with histograms, one of
// the series that make it up.
func findSeries(all families, name string) (series, bool) {
	if name == "up" {
		return series{kind: dto.MetricType_GAUGE}, true
	}
	if f := all[name]; f != nil && f.GetType() != dto.MetricType_HISTOGRAM {
		return series{f.GetType(), labelsOf(f)}, true
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		base, cut := strings.CutSuffix(name, suffix)
		if f := all[base]; cut && f.GetType() == dto.MetricType_HISTOGRAM {
			known := labelsOf(f)
			if suffix == "_bucket" {
				known = append(known, "le")
			}
			return series{dto.MetricType_COUNTER, known}, true
		}
	}
	return series{}, false
}

// checkExpression fails the test unless Prometheus could evaluate the expression, and
// would find the series and the labels that it names. It returns the metrics that it uses.
func checkExpression(t *testing.T, all families, where, text string) (used []string) {
	t.Helper()
	expression, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		t.Errorf("%s: %s: %v", where, text, err)
		return nil
	}
	known := slices.Clone(fromPrometheus)
	parser.Inspect(expression, func(node parser.Node, path []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		found, ok := findSeries(all, selector.Name)
		if !ok {
			t.Errorf("%s: there is no %s", where, selector.Name)
			return nil
		}
		used, known = append(used, selector.Name), append(known, found.labels...)
		checkMatchers(t, where, selector, append(found.labels, fromPrometheus...))
		if rises := isRated(path); rises != (found.kind == dto.MetricType_COUNTER) {
			t.Errorf("%s: %s is a %v, and under rate or increase: %v", where, selector.Name, found.kind, rises)
		}
		return nil
	})
	parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
		if a, ok := node.(*parser.AggregateExpr); ok {
			for _, label := range a.Grouping {
				if !slices.Contains(known, label) {
					t.Errorf("%s: no metric of it has the label %s", where, label)
				}
			}
		}
		return nil
	})
	if len(used) == 0 {
		t.Errorf("%s: %s looks at nothing", where, text)
	}
	return used
}

func checkMatchers(t *testing.T, where string, selector *parser.VectorSelector, known []string) {
	t.Helper()
	for _, m := range selector.LabelMatchers {
		if !slices.Contains(known, m.Name) {
			t.Errorf("%s: %s has no label %s", where, selector.Name, m.Name)
		}
		if m.Name == "route" && m.Type == labels.MatchRegexp && !m.Matches("/v1/credentials/:integration") {
			t.Errorf("%s: %s does not match the route that hands out values", where, m)
		}
	}
}

// isRated reports whether one of the nodes above counts the rise of what is below.
func isRated(path []parser.Node) bool {
	return slices.ContainsFunc(path, func(n parser.Node) bool {
		call, ok := n.(*parser.Call)
		return ok && slices.Contains([]string{"rate", "increase", "irate"}, call.Func.Name)
	})
}

// ruleFile is what Prometheus takes for a file of alerts; it refuses what is not here.
type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Expr string
			For         string
			Labels      map[string]string
			Annotations map[string]string
		}
	}
}

func TestAlertRules(t *testing.T) {
	t.Parallel()
	all, _ := everyMetric(t)
	content, err := os.ReadFile("../../deploy/prometheus/sidevault.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file ruleFile
	if err := yaml.UnmarshalWithOptions(content, &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if len(file.Groups) != 1 || len(file.Groups[0].Rules) < 12 {
		t.Fatalf("not the rules that were expected: %+v", file)
	}
	for _, rule := range file.Groups[0].Rules {
		checkExpression(t, all, rule.Alert, rule.Expr)
		if _, err := model.ParseDuration(rule.For); rule.For != "" && err != nil {
			t.Errorf("%s: for: %v", rule.Alert, err)
		}
		if rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
			t.Errorf("%s lacks its severity, summary or description", rule.Alert)
		}
		for name, text := range rule.Annotations {
			checkAnnotation(t, rule.Alert+": "+name, text)
		}
	}
}

// checkAnnotation fails the test unless the text is a template as Prometheus fills it in:
// it has two variables, and functions of its own.
func checkAnnotation(t *testing.T, where, text string) {
	t.Helper()
	same := func(v any) any { return v }
	functions := template.FuncMap{"humanize": same, "humanizeDuration": same, "humanizePercentage": same}
	filled, err := template.New("").Funcs(functions).Option("missingkey=error").Parse("{{ $labels := .Labels }}{{ $value := .Value }}" + text)
	if err == nil {
		err = filled.Execute(io.Discard, map[string]any{"Labels": map[string]string{
			"instance": "i", "job": "j", "plugin": "p", "environment": "e", "kind": "k",
		}, "Value": 1.5})
	}
	if err != nil {
		t.Errorf("%s: %v", where, err)
	}
}

// dashboard is what Grafana's JSON has of a dashboard's panels.
type dashboard struct {
	UID        string
	Templating struct{ List []struct{ Name string } }
	Panels     []struct {
		ID          int
		Type, Title string
		Datasource  struct{ UID string }
		GridPos     struct{ X, Y, W, H int }
		Targets     []struct{ Expr string }
	}
}

var dashboardVariableRE = regexp.MustCompile(`\$\{?[a-z_]+\}?`)

// evaluable puts what Grafana would into the place of its variables.
func (d dashboard) evaluable(t *testing.T, expr string) string {
	return dashboardVariableRE.ReplaceAllStringFunc(expr, func(v string) string {
		switch name := strings.Trim(v, "${}"); {
		case name == "__rate_interval" || name == "__range":
			return "5m"
		case slices.ContainsFunc(d.Templating.List, func(l struct{ Name string }) bool { return l.Name == name }):
			return ".*"
		}
		t.Errorf("%s: the dashboard has no variable %s", expr, v)
		return v
	})
}

// unplotted are metrics that the dashboard does not show, and why not.
var unplotted = map[string]string{
	"sidevault_mcp_tool_duration_seconds": "the calls of tools are few, and requests to /mcp are timed",
	"sidevault_backups_total":             "the age of the last one says more",
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	all, _ := everyMetric(t)
	content, err := os.ReadFile("../../deploy/grafana/sidevault.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(content, &d); err != nil {
		t.Fatal(err)
	}
	seen, used := map[int]bool{}, map[string]bool{}
	for _, p := range d.Panels {
		if seen[p.ID] || p.Title == "" || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %q: a second one, without a title, or too wide", p.ID, p.Title)
		}
		seen[p.ID] = true
		if p.Type != "row" && (len(p.Targets) == 0 || p.Datasource.UID != "${datasource}") {
			t.Errorf("panel %q shows nothing, or not what the data source has that is chosen", p.Title)
		}
		for _, target := range p.Targets {
			for _, name := range checkExpression(t, all, p.Title, d.evaluable(t, target.Expr)) {
				used[name] = true
			}
		}
	}
	for name := range all {
		shown := used[name] || used[name+"_bucket"] || used[name+"_count"]
		if _, known := unplotted[name]; strings.HasPrefix(name, "sidevault_") && shown == known {
			t.Errorf("%s: shown: %v; among those that are not to be: %v", name, shown, known)
		}
	}
}
