package e2e_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fibstack/fibstack/e2e"
)

// The page in a real browser: see page/. Not beside the other tests, for it shows the newest twenty calculations only.
func TestThePageInChromium(t *testing.T) {
	require.NoError(t, e2e.Build("e2e/page/node_modules/.package-lock.json"))
	tests := exec.CommandContext(t.Context(), "npm", "test")
	tests.Dir = "page"
	tests.Env = append(os.Environ(), "BASE_URL="+target.URL)
	tests.Stdout, tests.Stderr = t.Output(), t.Output()
	require.NoError(t, tests.Run())
}
