// Package monitoring_test proves that the dashboards and the rules show what happens. It puts a load with failures on a
// stack, and asks the Prometheus that watches it every question of every panel and every rule.
//
// With BASE_URL and PROMETHEUS_URL it runs on any stack that nobody else uses meanwhile:
//
//	BASE_URL=http://localhost:3050 PROMETHEUS_URL=http://localhost:9091 go test -count=1 ./e2e/monitoring
//
// That may be on Kubernetes, with the exporters and the Prometheus of k8s/prometheus.
//
// Without them it starts private native stacks, takes their stores away for a moment, and has alerts fire. It also
// proves then that the trace and the log lines of a calculation belong together.
package monitoring_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/e2e"
	"github.com/fibstack/fibstack/internal/queue"
	"github.com/fibstack/fibstack/internal/testkit"
)

const chart = "../../charts/fibstack"

func private() bool { return os.Getenv("BASE_URL") == "" || os.Getenv("PROMETHEUS_URL") == "" }

func TestMain(m *testing.M) {
	if private() {
		if err := e2e.BuildStack(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// bundle is a stack and the Prometheus that watches it.
type bundle struct {
	*e2e.Target
	// own is nil if the stack is not private to the test.
	own        *e2e.Private
	prometheus string
}

func setup(t *testing.T, settings ...string) *bundle {
	t.Helper()
	if private() {
		quick := []string{"MONITORING=1", "CLAIM_IDLE=5s", "SWEEP_INTERVAL=1s", "MAX_ATTEMPTS=2", "MAX_INDEX=100000000"}
		own := e2e.StartPrivate(t, append(quick, settings...)...)
		return &bundle{own.Target, own, own.Stack.Env("PROMETHEUS_URL")}
	}
	target, err := e2e.Open(t.Context(), os.Getenv("BASE_URL"))
	require.NoError(t, err)
	return &bundle{target, nil, strings.TrimRight(os.Getenv("PROMETHEUS_URL"), "/")}
}

// ask decodes the data of an answer of Prometheus.
func (b *bundle) ask(t *testing.T, path string, parameters url.Values, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.prometheus+path+"?"+parameters.Encode(), http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
	require.Equalf(t, "success", answer.Status, "%s: %s", parameters, answer.Error)
	require.NoError(t, json.Unmarshal(answer.Data, into))
}

// query returns the values of an instant vector.
func (b *bundle) query(t *testing.T, expr string) (values []float64) {
	t.Helper()
	var data struct {
		Result []struct{ Value [2]any }
	}
	b.ask(t, "/api/v1/query", url.Values{"query": {expr}}, &data)
	for _, series := range data.Result {
		value, err := strconv.ParseFloat(series.Value[1].(string), 64)
		require.NoError(t, err)
		values = append(values, value)
	}
	return values
}

// onKubernetes tells whether the stack runs there, where the kubelet knows of containers and no nginx is in front.
func (b *bundle) onKubernetes(t *testing.T) bool {
	t.Helper()
	return len(b.query(t, `group(fibstack_build_info{namespace!=""})`)) > 0
}

// awaitScrape waits until every process has been scraped after this moment.
func (b *bundle) awaitScrape(t *testing.T) {
	t.Helper()
	now := float64(time.Now().UnixMilli()) / 1000
	e2e.Await(t, "api and worker to be scraped", func() bool {
		values := b.query(t, `count(fibstack_build_info) by (service) and min(timestamp(fibstack_build_info)) by (service) > `+
			strconv.FormatFloat(now, 'f', 3, 64))
		return len(values) == 2
	})
}

// counters are what the load is held against: raw, for a rate is never exact.
var counters = map[string]string{
	"new":               `sum(fibstack_submissions_total{outcome="new"})`,
	"waiting":           `sum(fibstack_submissions_total{outcome="waiting"})`,
	"done already":      `sum(fibstack_submissions_total{outcome="done"})`,
	"refused":           `sum(fibstack_http_requests_total{method="POST",code="422"})`,
	"unavailable":       `sum(fibstack_http_requests_total{method="POST",code="503"})`,
	"no such method":    `sum(fibstack_http_requests_total{method="other"})`,
	"no such path":      `sum(fibstack_http_requests_total{method="GET",route="other",code="404"})`,
	"jobs done":         `sum(fibstack_jobs_total{outcome="done"})`,
	"jobs skipped":      `sum(fibstack_jobs_total{outcome="skipped"})`,
	"jobs retried":      `sum(fibstack_jobs_total{outcome="retried"})`,
	"jobs failed":       `sum(fibstack_jobs_total{outcome="failed"})`,
	"jobs lost":         `sum(fibstack_jobs_total{outcome="lost"})`,
	"dead letters":      `max(fibstack_queue_dead_letters)`,
	"queued":            `sum(fibstack_job_stage_duration_seconds_count{stage="queue"})`,
	"taken":             `sum(fibstack_job_stage_duration_seconds_count{stage="wait"})`,
	"calculated":        `sum(fibstack_job_stage_duration_seconds_count{stage="calculate"})`,
	"stored":            `sum(fibstack_job_stage_duration_seconds_count{stage="store"})`,
	"announced":         `sum(fibstack_job_stage_duration_seconds_count{stage="announce"})`,
	"results":           `sum(fibstack_job_duration_seconds_count)`,
	"small results":     `sum(fibstack_job_duration_seconds_count{size="1e3"})`,
	"results up to 1e5": `sum(fibstack_job_duration_seconds_count{size="1e5"})`,
	"not queued":        `sum(fibstack_enqueue_failures_total)`,
	"swept":             `sum(fibstack_swept_jobs_total)`,
}

func (b *bundle) count(t *testing.T) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for name, expr := range counters {
		values := b.query(t, expr+" or vector(0)")
		require.Len(t, values, 1)
		counts[name] = int(values[0])
	}
	return counts
}

// load does what the counters count, and returns by how much each must have risen.
func (b *bundle) load(t *testing.T) map[string]int {
	t.Helper()
	did := map[string]int{}
	b.Listen(t)
	asked := append(b.askForSome(t, did, 15, 1, 1000), b.askForSome(t, did, 5, 10_001, 100_000)...)
	for _, index := range asked {
		b.AwaitDone(t, index)
		b.Digits(t, index)
		require.Equal(t, "done", b.Ask(t, index))
	}
	count(did, 15, append(finished, "small results")...)
	count(did, 5, append(finished, "results up to 1e5")...)
	count(did, 20, "queued", "taken", "calculated", "done already")
	for range 4 {
		b.Post(t, `{"index":"999999999999999999999"}`)
		count(did, 1, "refused")
	}
	for i := range 3 {
		_, err := b.Do(t.Context(), "BREW", "/api/values", "")
		require.NoError(t, err)
		b.Get(t, fmt.Sprintf("/api/nothing/%d", i))
		count(did, 1, "no such method", "no such path")
	}
	if b.own != nil {
		b.spoiled(t, did)
		b.withoutStores(t, did)
	}
	return did
}

// finished is what rises with every job that ends well.
var finished = []string{"jobs done", "stored", "announced", "results"}

func count(did map[string]int, n int, names ...string) {
	for _, name := range names {
		did[name] += n
	}
}

// askForSome asks for indexes that nobody has asked for yet.
func (b *bundle) askForSome(t *testing.T, did map[string]int, n int, low, high int64) (asked []int64) {
	t.Helper()
	for range n {
		index := b.FreshIndex(t, low, high)
		require.Equal(t, "pending", b.Ask(t, index))
		asked = append(asked, index)
	}
	count(did, n, "new")
	return asked
}

// spoiled has two jobs go wrong in PostgreSQL: one of them at its first attempt, the other at both.
func (b *bundle) spoiled(t *testing.T, did map[string]int) {
	t.Helper()
	for times, outcome := range map[int]string{1: "done", 2: "failed"} {
		b.requireEnd(t, b.askSpoiled(t, times), outcome)
	}
	count(did, 2, "new", "queued", "taken")
	count(did, 2+2, "calculated")
	count(did, 1+2, "jobs retried")
	count(did, 1, append(finished, "small results", "jobs failed", "dead letters")...)
}

// askSpoiled asks for an index whose result PostgreSQL will refuse a number of times.
func (b *bundle) askSpoiled(t *testing.T, times int) int64 {
	t.Helper()
	index := b.FreshIndex(t, 1, 1000)
	// Unlike a row, a sequence keeps what it has counted when the transaction fails.
	_, err := b.own.Postgres.ExecContext(t.Context(), strings.NewReplacer("INDEX", strconv.FormatInt(index, 10),
		"TIMES", strconv.Itoa(times)).Replace(`
		CREATE SEQUENCE tries_INDEX;
		CREATE FUNCTION spoil_INDEX() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF nextval('tries_INDEX') <= TIMES THEN
				RAISE EXCEPTION 'refused by the test';
			END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER spoil_INDEX BEFORE UPDATE ON calculations
			FOR EACH ROW WHEN (NEW.index = INDEX AND NEW.status = 'done') EXECUTE FUNCTION spoil_INDEX()`))
	require.NoError(t, err)
	require.Equal(t, "pending", b.Ask(t, index))
	return index
}

func (b *bundle) requireEnd(t *testing.T, index int64, status string) {
	t.Helper()
	var c e2e.Calculation
	e2e.Await(t, fmt.Sprintf("the end of F(%d)", index), func() bool {
		c = b.Look(t, index)
		return c.Status != "pending"
	})
	require.Equal(t, status, c.Status)
}

// withoutStores takes Redis away, and then PostgreSQL.
func (b *bundle) withoutStores(t *testing.T, did map[string]int) {
	t.Helper()
	const asks = 3
	b.own.Stack.Stop(t, "redis")
	asked := b.askForSome(t, did, asks, 1, 1000)
	for _, index := range asked {
		require.Equal(t, "pending", b.Ask(t, index))
	}
	b.own.Stack.Start(t, "redis")
	for _, index := range asked {
		b.AwaitDone(t, index)
	}
	count(did, asks, append(finished, "waiting", "swept", "taken", "calculated", "small results")...)
	count(did, 2*asks, "not queued")

	b.own.Stack.Stop(t, "postgres")
	for range asks {
		answer, err := b.Do(t.Context(), http.MethodPost, "/api/values", `{"index":"7"}`, "Content-Type", "application/json")
		require.NoError(t, err)
		require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode, answer)
	}
	count(did, asks, "unavailable")
	b.own.Stack.Start(t, "postgres")
	e2e.Await(t, "PostgreSQL", func() bool {
		answer, err := b.Do(t.Context(), http.MethodGet, "/api/values", "")
		return err == nil && answer.StatusCode == http.StatusOK
	})
}

// requireRisen requires of the counters that they have risen by what was done since they stood at before.
func (b *bundle) requireRisen(t *testing.T, before, did map[string]int, of ...string) {
	t.Helper()
	var rose map[string]int
	equal := func() bool {
		rose = b.count(t)
		for name := range rose {
			rose[name] -= before[name]
		}
		return !slices.ContainsFunc(of, func(name string) bool { return did[name] != rose[name] })
	}
	if !eventually(equal) {
		for _, name := range of {
			require.Equalf(t, did[name], rose[name], "%s: what was done, and what was counted. All: %v", name, rose)
		}
	}
}

// killWorker kills the worker in the middle of a job, and takes a job away from the next one, whose counters begin anew.
func (b *bundle) killWorker(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	interrupted := b.own.Interrupt(t, syscall.SIGKILL)
	taken := b.FreshIndex(t, 1, 1000)
	b.Ask(t, taken)
	tx, err := b.own.Postgres.BeginTx(ctx, nil)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	_, err = tx.ExecContext(ctx, `SELECT FROM calculations WHERE index = $1 FOR UPDATE`, taken)
	require.NoError(t, err)

	b.own.Stack.Start(t, "worker")
	entry := b.own.Redis.HGet(ctx, queue.Queued, strconv.FormatInt(taken, 10)).Val()
	require.NotEmpty(t, entry)
	e2e.Await(t, "the job to be taken", func() bool {
		return len(b.own.Redis.XPendingExt(ctx, &redis.XPendingExtArgs{
			Stream: queue.Stream, Group: queue.Group, Start: entry, End: entry, Count: 1,
		}).Val()) == 1
	})
	require.NoError(t, b.own.Redis.XClaimJustID(ctx, &redis.XClaimArgs{
		Stream: queue.Stream, Group: queue.Group, Consumer: "the test", Messages: []string{entry},
	}).Err())
	b.requireRisen(t, nil, map[string]int{"jobs lost": 1}, "jobs lost")
	require.NoError(t, tx.Rollback())
	b.AwaitDone(t, interrupted)
	b.AwaitDone(t, taken)
	want := map[string]int{"taken": 1, "calculated": 2, "small results": 1, "jobs lost": 1}
	count(want, 2, finished...)
	b.requireRisen(t, nil, want, "taken", "calculated", "stored", "announced", "results", "small results", "swept",
		"jobs done", "jobs skipped", "jobs retried", "jobs failed", "jobs lost")
}

// panel is what is to be known of one. Its unit says which values are plausible.
type panel struct {
	Title       string
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct{ Expr, LegendFormat string }
}

type dashboard struct {
	Panels     []panel
	Templating struct {
		List []struct {
			Name, Type string
			Query      any
		}
	}
	Annotations struct{ List []struct{ Expr string } }
}

// fill puts in what Grafana would: all of each variable, and a range that has the whole load in it.
var fill = strings.NewReplacer("$namespace", ".*", "$instance", ".*", "$__rate_interval", "10m")

func TestEveryQueryShowsWhatTheLoadDid(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.awaitScrape(t)
	before := b.count(t)
	did := b.load(t)
	b.requireRisen(t, before, did, slices.Collect(maps.Keys(counters))...)
	if b.own != nil {
		b.killWorker(t)
	}

	files, err := filepath.Glob(chart + "/dashboards/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	panels, queries := 0, 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var d dashboard
		require.NoError(t, json.Unmarshal(text, &d))
		for _, p := range d.Panels {
			if len(p.Targets) > 0 {
				panels++
			}
			for _, target := range p.Targets {
				queries++
				b.requireShown(t, filepath.Base(file)+", "+p.Title+", "+target.LegendFormat, fill.Replace(target.Expr), p)
			}
		}
		for _, a := range d.Annotations.List {
			queries++
			b.query(t, fill.Replace(a.Expr)) // rightly empty while nothing is deployed
		}
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			queries++
			query := fill.Replace(v.Query.(map[string]any)["query"].(string))
			parts := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(query)
			require.NotNil(t, parts, query)
			require.NotEmpty(t, b.query(t, parts[1]), query)
			if parts[2] != "namespace" { // which only Kubernetes has
				require.NotEmpty(t, b.query(t, fmt.Sprintf(`group by (%[2]s) (%[1]s{%[2]s!=""})`, strings.SplitN(parts[1], "{", 2)[0], parts[2])), query)
			}
		}
	}
	t.Logf("%d panels, %d queries", panels, queries)
	b.requireRules(t)
	b.requireTargets(t)
	b.requireGoodMetrics(t)
}

// requireGoodMetrics has what api and worker serve after the load checked by Prometheus's linter. What the exporters
// serve is named by others. In containers none of it can be reached from here.
func (b *bundle) requireGoodMetrics(t *testing.T) {
	t.Helper()
	if b.own == nil {
		return
	}
	for _, name := range []string{"API_OPS_ADDR", "WORKER_OPS_ADDR"} {
		testkit.RequireGoodMetrics(t, "http://"+b.own.Stack.Env(name)+"/metrics")
	}
}

// requireTargets requires that all processes of the stack are scraped.
func (b *bundle) requireTargets(t *testing.T) {
	t.Helper()
	jobs := []string{"api", "worker", "client", "postgres", "redis", "prometheus"}
	if b.onKubernetes(t) {
		jobs = append(jobs, "kubelet")
	} else {
		jobs = append(jobs, "nginx")
	}
	for _, job := range jobs {
		e2e.Await(t, job+" to be scraped", func() bool {
			up := b.query(t, fmt.Sprintf("min(up{job=%q})", job))
			return len(up) == 1 && up[0] == 1
		})
	}
	t.Logf("%v targets", b.query(t, "count(up == 1)")[0])
}

// requireShown requires of a panel's query that it has values, all of them plausible for the panel's unit.
func (b *bundle) requireShown(t *testing.T, where, expr string, p panel) {
	t.Helper()
	// What the kubelet knows of containers is there on Kubernetes alone.
	if strings.Contains(expr, "container_") && !b.onKubernetes(t) {
		return
	}
	var shown []float64
	e2e.Await(t, where+" to show something: "+expr, func() bool {
		shown = nil
		for _, value := range b.query(t, expr) {
			if !math.IsNaN(value) { // one of the series had no events, say the sizes that nobody asked for
				shown = append(shown, value)
			}
		}
		return len(shown) > 0
	})
	for _, value := range shown {
		require.Falsef(t, math.IsInf(value, 0), "%s: %v", where, value)
		switch unit := p.FieldConfig.Defaults.Unit; {
		case unit == "percentunit":
			require.LessOrEqualf(t, value, 1.0, where)
			if !strings.Contains(p.Title, " left") { // less than nothing of a budget is left when a promise is broken
				require.GreaterOrEqualf(t, value, 0.0, where)
			}
		case unit == "s" && p.Title != "Age":
			require.GreaterOrEqualf(t, value, 0.0, where)
			require.Lessf(t, value, e2e.Patience.Seconds(), "%s: nothing took that long; are these seconds?", where)
		case unit == "bytes":
			require.Greaterf(t, value, 10_000.0, "%s: are these bytes?", where)
		default:
			require.GreaterOrEqualf(t, value, 0.0, where)
		}
	}
}

// selectors are what an alert's expression looks at, with what it requires of the labels.
var selectors = regexp.MustCompile(`\b(fibstack[_:][a-zA-Z0-9_:]+|up|pg_up|nginx_up)\b(\{[^}]*\})?`)

// requireRules requires that Prometheus evaluates all rules without an error, that all that is recorded is there, and
// that all alerts have something to look at.
func (b *bundle) requireRules(t *testing.T) {
	t.Helper()
	var data struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Name, Type, Query, Health, LastError string
				Labels                               map[string]string
			}
		}
	}
	recorded, alerts := 0, 0
	missed := ruleNames(t)
	b.ask(t, "/api/v1/rules", nil, &data)
	for _, group := range data.Groups {
		if !strings.HasPrefix(group.Name, "fibstack") {
			continue
		}
		for _, rule := range group.Rules {
			delete(missed, rule.Name)
			require.Equalf(t, "ok", rule.Health, "%s: %s", rule.Name, rule.LastError)
			b.query(t, rule.Query)
			if rule.Type == "recording" {
				recorded++
				require.NotEmpty(t, b.query(t, rule.Name), rule.Name)
				continue
			}
			alerts++
			require.Contains(t, alertsSeen, rule.Name+", "+rule.Labels["severity"], "no test has this alert fire")
			for _, selector := range selectors.FindAllString(rule.Query, -1) {
				require.NotEmptyf(t, b.query(t, "last_over_time("+selector+"[10m])"), "%s looks at %s", rule.Name, selector)
			}
		}
	}
	t.Logf("%d recording rules, %d alerts", recorded, alerts)
	require.NotZero(t, recorded)
	require.NotZero(t, alerts)
	require.Empty(t, missed, "of the chart, and not known to Prometheus")
}

// ruleNames are those of the chart's files.
func ruleNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	files, err := filepath.Glob(chart + "/rules/*.yaml")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, match := range regexp.MustCompile(`- (?:alert|record): (\S+)`).FindAllSubmatch(text, -1) {
			names[string(match[1])] = true
		}
	}
	return names
}

func eventually(seen func() bool) bool {
	for deadline := time.Now().Add(e2e.Patience); time.Now().Before(deadline); time.Sleep(time.Second) {
		if seen() {
			return true
		}
	}
	return false
}
