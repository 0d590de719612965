package monitoring_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/e2e"
	"github.com/fibstack/fibstack/internal/queue"
)

// Every alert is made to fire by one of the tests below, in stacks whose rules are the chart's with one change: what
// must last for minutes lasts for a second. All expressions and their windows are as they are.

// whenAway are the alerts for a process that is stopped.
var whenAway = []struct{ process, alert string }{
	{"worker", "FibstackNoWorkers, critical"},
	{"worker", "FibstackTargetDown, warning"},
	{"redis", "FibstackQueueUnreachable, critical"},
	{"postgres", "FibstackPostgresDown, critical"},
	{"client", "FibstackNginxDown, critical"},
	{"api", "FibstackAPIAbsent, critical"},
}

// The alerts for work that does not get on.
var (
	whenUnswept = []string{"FibstackSweepsFail, warning"}
	whenStuck   = []string{"FibstackQueueStuck, critical", "FibstackQueueSlow, warning"}
	whenLate    = []string{
		"FibstackSweeperBusy, warning", "FibstackJobsFail, warning", "FibstackJobsSlow, critical", "FibstackJobsSlow, warning",
	}
	whenHanging = []string{
		"FibstackAPIErrors, critical", "FibstackAPIErrors, warning", "FibstackAPISlow, critical", "FibstackAPISlow, warning",
	}
)

// alertsSeen are those that the tests have fire.
var alertsSeen = func() (all []string) {
	for _, c := range whenAway {
		all = append(all, c.alert)
	}
	return slices.Concat(all, whenUnswept, whenStuck, whenLate, whenHanging)
}()

// setupImpatient starts a stack whose alerts do not wait.
func setupImpatient(t *testing.T, settings ...string) *bundle {
	t.Helper()
	if !private() {
		t.Skip("takes parts of the stack away")
	}
	rules := t.TempDir()
	files, err := filepath.Glob(chart + "/rules/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		text = regexp.MustCompile(`(?m)^( +for:) \w+$`).ReplaceAll(text, []byte("$1 1s"))
		require.NoError(t, os.WriteFile(filepath.Join(rules, filepath.Base(file)), text, 0o600))
	}
	b := setup(t, append(settings, "RULES_DIR="+rules)...)
	b.awaitScrape(t)
	return b
}

func (b *bundle) firing(t *testing.T, alert string) bool {
	t.Helper()
	name, severity, _ := strings.Cut(alert, ", ")
	return len(b.query(t, fmt.Sprintf(`ALERTS{alertname=%q, severity=%q, alertstate="firing"}`, name, severity))) > 0
}

func (b *bundle) awaitFiring(t *testing.T, alerts ...string) {
	t.Helper()
	for _, alert := range alerts {
		e2e.Await(t, alert+" to fire", func() bool { return b.firing(t, alert) })
	}
}

func (b *bundle) awaitResolved(t *testing.T, alerts ...string) {
	t.Helper()
	for _, alert := range alerts {
		e2e.Await(t, alert+" to resolve", func() bool { return !b.firing(t, alert) })
	}
}

func TestAlertsFireForWhatIsAwayAndResolve(t *testing.T) {
	t.Parallel()
	b := setupImpatient(t)
	for _, c := range whenAway {
		require.Falsef(t, b.firing(t, c.alert), "%s before %s is stopped", c.alert, c.process)
		b.own.Stack.Stop(t, c.process)
		if c.alert == "FibstackNoWorkers, critical" {
			b.Ask(t, b.FreshIndex(t, 1, 1000)) // without work none is missed
		}
		b.awaitFiring(t, c.alert)
		b.awaitSent(t, c.alert)
		b.own.Stack.Start(t, c.process)
		b.awaitResolved(t, c.alert)
	}
}

// awaitSent waits until Alertmanager knows of an alert, with the page that says what to do.
func (b *bundle) awaitSent(t *testing.T, alert string) {
	t.Helper()
	name, _, _ := strings.Cut(alert, ", ")
	e2e.Await(t, alert+" at Alertmanager", func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			b.own.Stack.Env("ALERTMANAGER_URL")+"/api/v2/alerts", http.NoBody)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		var alerts []struct{ Labels, Annotations map[string]string }
		require.NoError(t, json.NewDecoder(response.Body).Decode(&alerts))
		for _, a := range alerts {
			if a.Labels["alertname"] == name {
				return strings.HasSuffix(a.Annotations["runbook_url"], "/"+name+".md")
			}
		}
		return false
	})
}

func TestAlertsFireForWorkThatDoesNotGetOn(t *testing.T) {
	t.Parallel()
	// The only sweep is made at the start, when PostgreSQL is not there yet.
	b := setupImpatient(t, "SWEEP_INTERVAL=1h", "MAX_ATTEMPTS=1")
	ctx := t.Context()
	b.awaitFiring(t, whenUnswept...)
	for _, alert := range slices.Concat(whenStuck, whenLate, whenHanging) {
		require.False(t, b.firing(t, alert), alert)
	}
	b.own.Stack.Stop(t, "worker")
	asked := b.askForSome(t, map[string]int{}, 30, 1, 1000)
	b.askSpoiled(t, 1)

	// Redis loses all but one job, which waits as if it had been queued long ago.
	require.NoError(t, b.own.Redis.FlushAll(ctx).Err())
	first, queued := strconv.FormatInt(asked[0], 10), time.Now().Add(-20*time.Minute).UnixMilli()
	id, err := b.own.Redis.XAdd(ctx, &redis.XAddArgs{
		Stream: queue.Stream, ID: fmt.Sprintf("%d-0", queued), Values: []any{"index", first, "attempts", 0, "queued", queued},
	}).Result()
	require.NoError(t, err)
	require.NoError(t, b.own.Redis.HSet(ctx, queue.Queued, first, id).Err())
	b.awaitFiring(t, whenStuck...)

	b.own.Stack.Start(t, "worker")
	b.awaitFiring(t, whenLate...)
	b.awaitResolved(t, slices.Concat(whenUnswept, whenStuck)...)

	thaw := b.own.Freeze(t, "postgres")
	stop := b.visitAll(t)
	b.awaitFiring(t, whenHanging...)
	stop()
	thaw()
}

// visitAll has a number of clients ask all the time, and wait for an answer, until stop is called.
func (b *bundle) visitAll(t *testing.T) (stop func()) {
	t.Helper()
	const clients = 20
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for range clients {
		asking.Go(func() {
			for ctx.Err() == nil {
				_, _ = b.Do(ctx, http.MethodGet, "/api/values", "") // whatever the answer is
			}
		})
	}
	stop = func() {
		cancel()
		asking.Wait()
	}
	t.Cleanup(stop)
	return stop
}
