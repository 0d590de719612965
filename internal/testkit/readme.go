package testkit

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/caarlos0/env/v11"
	"github.com/stretchr/testify/require"
)

// RequireInReadme checks that the README's table has every variable of the given configurations, with its default.
func RequireInReadme(t *testing.T, configs ...any) {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(Root(), "README.md"))
	require.NoError(t, err)
	for _, config := range configs {
		variables, err := env.GetFieldParams(config)
		require.NoError(t, err)
		for _, v := range variables {
			row := "\n| `" + v.Key + "` | "
			if v.DefaultValue != "" {
				row += "`" + v.DefaultValue + "` "
			}
			require.Contains(t, string(readme), row+"| ")
		}
	}
}
