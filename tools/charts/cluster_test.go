package charts

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TestAClusterTakesEverything hands the objects of every set of values to the API server of the context KUBE_CONTEXT, as
// a dry run in a namespace that enforces the restricted profile. A warning is a failure too: it is how the server speaks
// of pods that a Deployment will not get. Custom resources are defined first, and stay so.
func TestAClusterTakesEverything(t *testing.T) {
	context := os.Getenv("KUBE_CONTEXT")
	if context == "" {
		t.Skip("KUBE_CONTEXT names no cluster")
	}
	apply := func(t *testing.T, objects []*unstructured.Unstructured, args ...string) {
		t.Helper()
		var input bytes.Buffer
		for _, object := range objects {
			require.NoError(t, json.NewEncoder(&input).Encode(object))
		}
		cmd := exec.Command("kubectl", append([]string{"--context", context, "apply", "--server-side", "--recursive"}, args...)...)
		cmd.Stdin = &input
		out, err := cmd.CombinedOutput()
		require.NoErrorf(t, err, "%s", out)
		require.NotContainsf(t, string(out), "Warning:", "%s", out)
	}
	folder, err := definitions()
	require.NoError(t, err)
	apply(t, nil, "--filename", folder)

	namespace := &unstructured.Unstructured{}
	namespace.SetAPIVersion("v1")
	namespace.SetKind("Namespace")
	namespace.SetName("space")
	namespace.SetLabels(map[string]string{
		"pod-security.kubernetes.io/enforce": "restricted",
		"pod-security.kubernetes.io/warn":    "restricted",
	})
	apply(t, []*unstructured.Unstructured{namespace}, "--filename", "-")
	each(t, func(t *testing.T, objects []*unstructured.Unstructured) {
		// Nothing gets into a namespace that is not there, and no pod is taken as long as its account is not.
		for _, kind := range []string{"Namespace", "ServiceAccount"} {
			var first []*unstructured.Unstructured
			for _, object := range objects {
				if object.GetKind() == kind {
					first = append(first, object)
				}
			}
			if len(first) > 0 {
				apply(t, first, "--filename", "-", "--force-conflicts")
			}
		}
		apply(t, objects, "--filename", "-", "--dry-run=server", "--force-conflicts")
	})
}
