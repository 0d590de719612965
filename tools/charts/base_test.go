package charts

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// base holds the manifests for those who have no Helm.
const base = "../../k8s/base"

// ofHelm is what is true of a release only, or done by Kustomize in another way.
var ofHelm = regexp.MustCompile(`(?m)^ +(app\.kubernetes\.io/managed-by|helm\.sh/chart): .*\n|^ +annotations:\n( +checksum/.*\n)+`)

// manifests returns the files of base that are made of the chart in a folder: one of objects, and one of each ConfigMap,
// as Kustomize names these by what they hold.
func manifests(folder string) (map[string][]byte, error) {
	text, err := template("Helm 4", folder, "fibstack", "fibstack", base+"-values.yaml")
	if err != nil {
		return nil, err
	}
	const head = "# Made by make charts of charts/fibstack and k8s/base-values.yaml.\n"
	objects := strings.Builder{}
	objects.WriteString(head)
	files := map[string][]byte{}
	for document := range strings.SplitSeq(strings.TrimPrefix(string(text), "---\n"), "\n---\n") {
		parsed, err := parse([]byte(document))
		if err != nil {
			return nil, err
		}
		if len(parsed) == 1 && parsed[0].GetKind() == "ConfigMap" {
			settings, _, err := unstructured.NestedStringMap(parsed[0].Object, "data")
			if err != nil {
				return nil, err
			}
			lines := head
			for _, name := range slices.Sorted(maps.Keys(settings)) {
				lines += name + "=" + settings[name] + "\n"
			}
			files[filepath.Join(base, strings.TrimPrefix(parsed[0].GetName(), "fibstack-")+".env")] = []byte(lines)
			continue
		}
		objects.WriteString("---\n" + strings.TrimSpace(ofHelm.ReplaceAllString(document, "")) + "\n")
	}
	files[filepath.Join(base, "fibstack.yaml")] = []byte(objects.String())
	return files, nil
}

// kustomize returns what kubectl apply --kustomize sends to the cluster.
func kustomize(t *testing.T, files filesys.FileSystem, folder string) []*unstructured.Unstructured {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, folder)
	require.NoError(t, err)
	text, err := built.AsYaml()
	require.NoError(t, err)
	objects, err := parse(text)
	require.NoError(t, err)
	require.NotEmpty(t, objects)
	return objects
}

func TestManifestsNeedNothingOfHelm(t *testing.T) {
	t.Parallel()
	objects := kustomize(t, filesys.MakeFsOnDisk(), base)
	for _, object := range objects {
		text, err := object.MarshalJSON()
		require.NoError(t, err)
		require.NotRegexp(t, `(?i)helm|checksum`, string(text), ref(object))
		require.NotEqual(t, "Secret", object.GetKind(), "a password is in the repository")
		if object.GetKind() == "Namespace" {
			for _, mode := range []string{"enforce", "audit", "warn"} {
				require.Equal(t, "restricted", object.GetLabels()["pod-security.kubernetes.io/"+mode])
			}
			require.Equal(t, "fibstack", object.GetName())
			continue
		}
		require.Equal(t, "fibstack", object.GetNamespace(), ref(object))
	}

	// The line that makes the passwords makes all that are asked for.
	for _, file := range []string{base + "/kustomization.yaml", "../../docs/kubernetes.md"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, p := range pods(t, objects) {
			for _, c := range p.containers() {
				for _, e := range c.Env {
					if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
						require.Contains(t, string(text), "create secret generic "+e.ValueFrom.SecretKeyRef.Name+" ", file)
						require.Contains(t, string(text), "--from-literal="+e.ValueFrom.SecretKeyRef.Key+"=", file)
					}
				}
			}
		}
	}
}

// TestManifestsCanBeChanged builds the example of docs/kubernetes.md on top of the base.
func TestManifestsCanBeChanged(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../../docs/kubernetes.md")
	require.NoError(t, err)
	example := regexp.MustCompile("(?s)```yaml\n(# kustomization\\.yaml\n.*?)```").FindSubmatch(document)
	require.NotNil(t, example)
	files := filesys.MakeFsInMemory()
	require.NoError(t, files.WriteFile("/mine/kustomization.yaml", example[1]))
	kept, err := filepath.Glob(base + "/*")
	require.NoError(t, err)
	for _, file := range kept {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, files.WriteFile("/fibstack/k8s/base/"+filepath.Base(file), text))
	}

	objects := kustomize(t, files, "/mine")
	settings := map[string]map[string]string{}
	for _, object := range objects {
		if ref(object) == "Deployment/fibstack-worker" {
			require.EqualValues(t, 3, *into[appsv1.Deployment](t, object).Spec.Replicas)
		}
		if object.GetKind() == "ConfigMap" {
			settings[object.GetName()] = into[corev1.ConfigMap](t, object).Data
		}
	}
	var read []string
	for _, p := range pods(t, objects) {
		for _, c := range p.containers() {
			if strings.Contains(c.Image, "fibstack-") {
				require.Regexp(t, `^registry\.example\.com/fibstack-(api|client|worker):1\.2\.3$`, c.Image)
			}
			for _, from := range c.EnvFrom {
				read = append(read, settings[from.ConfigMapRef.Name]["MAX_INDEX"])
			}
		}
	}
	require.Contains(t, read, "5000")
	require.NotContains(t, settings, "fibstack-api", "the pods would not be replaced for a new setting")
}
