package charts

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// TestEveryValueCounts changes one value after the other. What makes no difference with any of the sets of values is dead,
// or is a switch that none of them can turn.
func TestEveryValueCounts(t *testing.T) {
	t.Parallel()
	loaded, err := loader.LoadDir(chart)
	require.NoError(t, err)
	render := func(values map[string]any) (map[string]string, error) {
		release := common.ReleaseOptions{Name: "release", Namespace: "space", IsInstall: true}
		// The schema would refuse some of the changes.
		all, err := util.ToRenderValuesWithSchemaValidation(loaded, values, release, nil, true)
		if err != nil {
			return nil, err
		}
		return engine.Render(loaded, all)
	}
	type set struct {
		values   map[string]any
		rendered map[string]string
	}
	var sets []set
	for _, file := range append(valueSets(t), base+"-values.yaml") {
		values := map[string]any{}
		if file != "" {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, yaml.Unmarshal(text, &values))
		}
		all, err := util.CoalesceValues(loaded, values)
		require.NoError(t, err)
		values = all
		// Without these they are made at random.
		for _, store := range []string{"postgresql", "redis"} {
			require.NoError(t, unstructured.SetNestedField(values, "password", store, "auth", "password"))
		}
		rendered, err := render(copied(t, values))
		require.NoErrorf(t, err, "%q", file)
		sets = append(sets, set{values, rendered})
	}

	leaves := leavesOf(copied(t, loaded.Values))
	require.Greater(t, len(leaves), 200)
	for _, path := range leaves {
		counts := slices.ContainsFunc(sets, func(s set) bool {
			values := copied(t, s.values)
			value, _, err := unstructured.NestedFieldCopy(values, path...)
			require.NoError(t, err)
			require.NoError(t, unstructured.SetNestedField(values, another(t, value), path...))
			rendered, err := render(values)
			// Some sets have no room for the change, such as for a second autoscaler.
			return err == nil && !maps.Equal(rendered, s.rendered)
		})
		if !counts {
			t.Errorf("%s makes no difference", strings.Join(path, "."))
		}
	}
}

// copied returns the values as JSON has them.
func copied(t *testing.T, values map[string]any) (other map[string]any) {
	t.Helper()
	text, err := json.Marshal(values)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &other))
	return other
}

func leavesOf(values map[string]any) (paths [][]string) {
	for key, value := range values {
		if inner, ok := value.(map[string]any); ok && len(inner) > 0 {
			for _, path := range leavesOf(inner) {
				paths = append(paths, append([]string{key}, path...))
			}
		} else {
			paths = append(paths, []string{key})
		}
	}
	return paths
}

// another returns a value of the same kind.
func another(t *testing.T, value any) any {
	t.Helper()
	switch value := value.(type) {
	case bool:
		return !value
	case float64:
		return value + 1
	case string:
		return "1" + value
	case []any:
		return append(value, map[string]any{"name": "x"})
	case map[string]any:
		return map[string]any{"x": "y"}
	}
	t.Fatalf("no other value of %T", value)
	return nil
}
