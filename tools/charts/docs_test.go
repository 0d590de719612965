package charts

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// What docs/kubernetes.md names must be there: values of the chart, and files.
func TestTheDocumentNamesWhatExists(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "kubernetes.md"))
	require.NoError(t, err)
	data, err := os.ReadFile(filepath.Join(root, "charts", "fibstack", "values.yaml"))
	require.NoError(t, err)
	var values map[string]any
	require.NoError(t, yaml.Unmarshal(data, &values))

	named := 0
	for _, match := range regexp.MustCompile("`([a-zA-Z]+(?:\\.[a-zA-Z]+)+)`").FindAllStringSubmatch(string(text), -1) {
		var value any = values
		for key := range strings.SplitSeq(match[1], ".") {
			parent, _ := value.(map[string]any)
			require.Contains(t, parent, key, match[1])
			value = parent[key]
		}
		named++
	}
	require.Greater(t, named, 15)
	for _, match := range regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(string(text), -1) {
		_, err := os.Stat(filepath.Join(root, "docs", match[1]))
		require.NoError(t, err)
	}
}
