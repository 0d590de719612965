package charts

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

// source is what a panel, a query, a variable or an annotation of a dashboard asks.
type source struct{ Type, UID string }

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               source
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct {
		Defaults struct {
			Unit       string
			Thresholds struct {
				Steps []struct {
					Color string
					Value *float64
				}
			}
		}
	}
	Targets []struct {
		Expr, RefID, LegendFormat string
		Datasource                source
		Instant                   bool
	}
}

type dashboard struct {
	UID, Title, Description, Refresh string
	Tags                             []string
	Panels                           []panel
	Links                            []struct {
		Type        string
		Tags        []string
		IncludeVars bool
	}
	Annotations struct {
		List []struct {
			Name, Expr string
			Datasource source
		}
	}
	Templating struct {
		List []struct {
			Name, Type string
			Datasource source
			Query      any
		}
	}
}

func readDashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(chart + "/dashboards/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	read := map[string]dashboard{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var d dashboard
		require.NoError(t, json.Unmarshal(text, &d))
		read[filepath.Base(file)] = d
	}
	return read
}

// parseQuery parses an expression with what Grafana would fill in.
func parseQuery(t *testing.T, where, query string) parser.Expr {
	t.Helper()
	query = strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h", "$__interval", "1m").Replace(query)
	expression, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	require.NoErrorf(t, err, "%s: %s", where, query)
	return expression
}

// units are those that the panels use. Grafana shows one that it does not know as a word behind the number.
var units = []string{"short", "percentunit", "s", "bytes", "reqps", "ops"}

// TestDashboardsFollowTheRules holds them against the rules of Grafana's own dashboard-linter, as far as they concern
// dashboards for one stack, and against what all of ours have. That they are of the right form is for the types of Grafana's
// SDK, and that the queries show something for e2e/monitoring.
func TestDashboardsFollowTheRules(t *testing.T) {
	t.Parallel()
	chosen := source{"prometheus", "${datasource}"}
	uids := map[string]bool{}
	for file, d := range readDashboards(t) {
		require.Equal(t, "fibstack-"+strings.TrimSuffix(file, ".json"), d.UID)
		require.False(t, uids[d.UID])
		uids[d.UID] = true
		require.True(t, strings.HasPrefix(d.Title, "fibstack / "), file)
		require.NotEmpty(t, d.Description, file)
		require.NotEmpty(t, d.Refresh, file)
		require.Equal(t, []string{"fibstack"}, d.Tags, file)
		require.Len(t, d.Links, 1, file)
		require.Equal(t, d.Tags, d.Links[0].Tags, "%s leads to the others", file)
		require.True(t, d.Links[0].IncludeVars, file)
		require.Len(t, d.Annotations.List, 1, file)
		require.Equal(t, "Deployments", d.Annotations.List[0].Name, file)
		require.Equal(t, chosen, d.Annotations.List[0].Datasource, file)
		require.Equal(t, "datasource", d.Templating.List[0].Name, file)
		require.Equal(t, "namespace", d.Templating.List[1].Name, file)
		for _, v := range d.Templating.List[1:] {
			require.Equal(t, chosen, v.Datasource, file+" "+v.Name)
		}
		requirePlaced(t, file, d.Panels)
		for _, p := range d.Panels {
			where := file + ", " + p.Title
			require.NotEmpty(t, p.Title, file)
			if p.Type == "row" {
				require.Empty(t, p.Targets, where)
				continue
			}
			require.NotEmpty(t, p.Targets, where)
			require.Equal(t, chosen, p.Datasource, where)
			require.Regexp(t, `^[A-Z0-9].*\.$`, p.Description, "%s: a sentence", where)
			require.Contains(t, units, p.FieldConfig.Defaults.Unit, where)
			steps := p.FieldConfig.Defaults.Thresholds.Steps
			require.NotEmpty(t, steps, where)
			require.Nil(t, steps[0].Value, where)
			for i := 2; i < len(steps); i++ {
				require.LessOrEqual(t, *steps[i-1].Value, *steps[i].Value, "%s: in order", where)
			}
			for i, target := range p.Targets {
				require.Equal(t, chosen, target.Datasource, where)
				require.Equal(t, string(rune('A'+i)), target.RefID, where)
				require.NotEmpty(t, target.LegendFormat, where)
				require.Equal(t, p.Type == "stat", target.Instant, where)
				requireSound(t, where, target.Expr)
			}
		}
	}
}

// requirePlaced requires that panels have ids of their own, lie within the grid and on none other.
func requirePlaced(t *testing.T, file string, panels []panel) {
	t.Helper()
	const columns = 24
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range panels {
		require.False(t, ids[p.ID], file+", "+p.Title)
		ids[p.ID] = true
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, columns, file+", "+p.Title)
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				require.Empty(t, taken[[2]int{x, y}], "%s, %s lies on", file, p.Title)
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

var counters = regexp.MustCompile(`_(total|bucket|sum|count)$`)

// requireSound requires of a query that it is of the chosen stack, and takes no counter for a value.
func requireSound(t *testing.T, where, query string) {
	t.Helper()
	parser.Inspect(parseQuery(t, where, query), func(node parser.Node, path []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		require.True(t, slices.ContainsFunc(selector.LabelMatchers, func(m *labels.Matcher) bool {
			return m.Name == "namespace" && m.Value == "$namespace"
		}), "%s: %s of any stack", where, selector)
		if counters.MatchString(selector.Name) {
			require.True(t, slices.ContainsFunc(path, func(above parser.Node) bool {
				call, ok := above.(*parser.Call)
				return ok && (call.Func.Name == "rate" || call.Func.Name == "increase")
			}), "%s: %s is a counter", where, selector)
		}
		return nil
	})
	for _, window := range regexp.MustCompile(`rate\([^[]*\[([^\]]+)\]`).FindAllStringSubmatch(query, -1) {
		require.Equal(t, "$__rate_interval", window[1], where)
	}
}

// TestIncreasesCountWithTheIntervalOfTheirGroup holds the factor of the sums of rates against the seconds between them.
func TestIncreasesCountWithTheIntervalOfTheirGroup(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(chart + "/rules/slo.yaml")
	require.NoError(t, err)
	interval := regexp.MustCompile(`(?m)^ +interval: (\d+)s`).FindSubmatch(text)
	require.NotNil(t, interval)
	factors := regexp.MustCompile(`record: "?fibstack:slo_bad:increase\w+"?, expr: "(\d+) \*`).FindAllSubmatch(text, -1)
	require.Len(t, factors, strings.Count(string(text), "record: \"fibstack:slo_bad:increase"))
	require.NotEmpty(t, factors)
	for _, factor := range factors {
		require.Equal(t, string(interval[1]), string(factor[1]))
	}
}
