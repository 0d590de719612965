package charts

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/endpoints/deprecation"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/openapi"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kubectl-validate/pkg/openapiclient"
	"sigs.k8s.io/kubectl-validate/pkg/validator"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const chart = "../../charts/fibstack"

// kubernetes are the versions that the chart supports, as far as their schemas are at hand: kubeVersion of Chart.yaml
// says the oldest.
var kubernetes = []string{"1.30", "1.31", "1.32", "1.33", "1.34", "1.35"}

// crds are modules that hold the definitions of objects that are not Kubernetes' own, and the folder of these.
var crds = map[string]string{
	"sigs.k8s.io/gateway-api@v1.6.1":                             "config/crd/standard", // as in k8s/kind
	"github.com/prometheus-operator/prometheus-operator@v0.93.0": "example/prometheus-operator-crd",
	"github.com/kedacore/keda/v2@v2.21.0":                        "config/crd/bases",
}

var helms = map[string]string{"Helm 3": "helm.sh/helm/v3/cmd/helm", "Helm 4": "helm.sh/helm/v4/cmd/helm"}

// valueSets are the files of values that everything is tested with; "" is none.
func valueSets(t *testing.T) []string {
	t.Helper()
	sets, err := filepath.Glob(chart + "/ci/*-values.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, sets)
	return append(sets, "", chart+"/values-production.yaml", monitoringValues)
}

type rendering struct {
	objects []*unstructured.Unstructured
	err     error
}

var renderings sync.Map

// render returns the objects of a release named "release" in the namespace "space".
func render(t *testing.T, helm, values string) []*unstructured.Unstructured {
	t.Helper()
	once, _ := renderings.LoadOrStore(helm+values, sync.OnceValue(func() rendering {
		out, err := template(helm, chart, "release", "space", values)
		if err != nil {
			return rendering{err: err}
		}
		objects, err := parse(out)
		return rendering{objects, err}
	}))
	r := once.(func() rendering)()
	require.NoError(t, r.err)
	require.NotEmpty(t, r.objects)
	return r.objects
}

// template returns what a release of the chart in a folder is made of, as YAML.
func template(helm, folder, release, namespace, values string) ([]byte, error) {
	args := []string{"tool", helms[helm], "template", release, folder, "--namespace", namespace, "--kube-version", kubernetes[0]}
	if values != "" {
		args = append(args, "--values", values)
	}
	out, err := exec.Command("go", args...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return out, err
}

func parse(text []byte) (objects []*unstructured.Unstructured, err error) {
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		object := &unstructured.Unstructured{}
		if document, err = yaml.ToJSON(document); err == nil && string(document) != "null" {
			err = object.UnmarshalJSON(document)
			objects = append(objects, object)
		}
		if err != nil {
			return nil, err
		}
	}
}

// each runs a test for every set of values, and for the manifests without Helm.
func each(t *testing.T, test func(t *testing.T, objects []*unstructured.Unstructured)) {
	t.Helper()
	for _, values := range valueSets(t) {
		t.Run(strings.TrimSuffix(filepath.Base(values), ".yaml"), func(t *testing.T) {
			t.Parallel()
			test(t, render(t, "Helm 4", values))
		})
	}
	t.Run("base", func(t *testing.T) {
		t.Parallel()
		test(t, kustomize(t, filesys.MakeFsOnDisk(), base))
	})
}

func TestLint(t *testing.T) {
	t.Parallel()
	for _, helm := range helms {
		for _, values := range valueSets(t) {
			args := []string{"tool", helm, "lint", "--strict", chart, "--kube-version", kubernetes[0]}
			if values != "" {
				args = append(args, "--values", values)
			}
			out, err := exec.Command("go", args...).CombinedOutput()
			require.NoErrorf(t, err, "%s", out)
		}
	}
}

var update = flag.Bool("update", false, "write what is generated into the chart and k8s/base")

// TestDashboardsAreCurrent makes the dashboards. Their program does not compile where they are not as Grafana's types are.
func TestDashboardsAreCurrent(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	cmd := exec.Command("npm", "run", "--silent", "build", "--", folder)
	cmd.Dir = "../dashboards"
	out, err := cmd.CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
	kept, err := filepath.Glob(chart + "/dashboards/*.json")
	require.NoError(t, err)
	made, err := filepath.Glob(folder + "/*.json")
	require.NoError(t, err)
	require.Len(t, kept, len(made))
	for _, file := range made {
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(chart, "dashboards", filepath.Base(file)))
		require.NoError(t, err)
		require.Truef(t, bytes.Equal(want, got), "%s is stale: make charts", filepath.Base(file))
	}
}

// TestGeneratedFilesAreCurrent makes the chart's schema and README of its values, and the manifests of the chart.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "fibstack")
	require.NoError(t, os.CopyFS(folder, os.DirFS(chart)))
	for _, args := range [][]string{
		{"helm-values-schema-json", "--config", folder + "/.schema.yaml", "--values", folder + "/values.yaml", "--output", folder + "/values.schema.json"},
		{"helm-docs", "--chart-search-root", folder, "--sort-values-order", "file"},
	} {
		out, err := exec.Command("go", append([]string{"tool"}, args...)...).CombinedOutput()
		require.NoErrorf(t, err, "%s", out)
	}
	generated, err := manifests(folder)
	require.NoError(t, err)
	for _, file := range []string{"values.schema.json", "README.md"} {
		text, err := os.ReadFile(filepath.Join(folder, file))
		require.NoError(t, err)
		generated[filepath.Join(chart, file)] = text
	}
	for file, want := range generated {
		if *update {
			require.NoError(t, os.WriteFile(file, want, 0o644))
		}
		got, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Truef(t, bytes.Equal(want, got), "%s is stale: make charts", filepath.Base(file))
	}
}

func ref(object *unstructured.Unstructured) string { return object.GetKind() + "/" + object.GetName() }

func TestBothHelmsRenderTheSame(t *testing.T) {
	t.Parallel()
	for _, values := range valueSets(t) {
		comparableObjects := func(helm string) map[string]any {
			objects := map[string]any{}
			for _, object := range render(t, helm, values) {
				object = object.DeepCopy()
				if object.GetKind() == "Secret" {
					delete(object.Object, "data") // random
				}
				objects[ref(object)] = object.Object
			}
			return objects
		}
		require.Equal(t, comparableObjects("Helm 3"), comparableObjects("Helm 4"))
	}
}

// definitions returns a folder with all custom resource definitions.
var definitions = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "crds")
	if err != nil {
		return "", err
	}
	for module, path := range crds {
		// Named by version, so that it is neither required by this module nor drags in what it requires itself.
		out, err := exec.Command("go", "mod", "download", "-json", module).Output()
		if err != nil {
			return "", fmt.Errorf("%s: %w: %s", module, err, out)
		}
		var download struct{ Dir string }
		if err := json.Unmarshal(out, &download); err != nil {
			return "", err
		}
		if err := os.CopyFS(filepath.Join(folder, filepath.Base(path)+strings.Split(module, "@v")[1]), os.DirFS(filepath.Join(download.Dir, path))); err != nil {
			return "", err
		}
	}
	return folder, nil
})

// validators are those of the versions of Kubernetes, which know the custom resources too.
var validators = sync.OnceValues(func() (map[string]*validator.Validator, error) {
	folder, err := definitions()
	if err != nil {
		return nil, err
	}
	modules, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	clients := []openapi.Client{}
	for _, module := range modules {
		clients = append(clients, openapiclient.NewLocalCRDFiles(os.DirFS(filepath.Join(folder, module.Name()))))
	}
	all := map[string]*validator.Validator{}
	for _, version := range kubernetes {
		if all[version], err = validator.New(openapiclient.NewComposite(append(clients, openapiclient.NewHardcodedBuiltins(version))...)); err != nil {
			return nil, err
		}
	}
	return all, nil
})

func requireValid(t *testing.T, objects []*unstructured.Unstructured) {
	t.Helper()
	all, err := validators()
	require.NoError(t, err)
	for _, object := range objects {
		document, err := object.MarshalJSON()
		require.NoError(t, err)
		for version, v := range all {
			_, parsed, err := v.Parse(document)
			require.NoErrorf(t, err, "%s in %s", ref(object), version)
			require.NoErrorf(t, v.Validate(parsed), "%s in %s", ref(object), version)
		}
	}
}

func TestKubernetesKnowsEveryField(t *testing.T) {
	t.Parallel()
	require.Subset(t, openapiclient.HardcodedBuiltinVersions, kubernetes)
	require.Equal(t, kubernetes[len(kubernetes)-1], openapiclient.HardcodedBuiltinVersions[len(openapiclient.HardcodedBuiltinVersions)-1],
		"there are schemas of a newer version")
	each(t, requireValid)
}

func TestNoAPIIsDeprecated(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, objects []*unstructured.Unstructured) {
		for _, object := range objects {
			typed, err := scheme.Scheme.New(object.GroupVersionKind())
			if runtime.IsNotRegisteredError(err) {
				continue // a custom resource
			}
			require.NoError(t, err)
			require.Empty(t, deprecation.WarningMessage(typed), ref(object))
		}
	})
}

type pod struct {
	owner    string
	metadata metav1.ObjectMeta
	spec     corev1.PodSpec
}

func (p pod) containers() []corev1.Container {
	return slices.Concat(p.spec.InitContainers, p.spec.Containers)
}

func into[T any](t *testing.T, object *unstructured.Unstructured) T {
	t.Helper()
	var typed T
	require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &typed))
	return typed
}

func pods(t *testing.T, objects []*unstructured.Unstructured) []pod {
	t.Helper()
	var all []pod
	for _, object := range objects {
		switch object.GetKind() {
		case "Deployment":
			d := into[appsv1.Deployment](t, object)
			all = append(all, pod{ref(object), d.Spec.Template.ObjectMeta, d.Spec.Template.Spec})
		case "StatefulSet":
			s := into[appsv1.StatefulSet](t, object)
			all = append(all, pod{ref(object), s.Spec.Template.ObjectMeta, s.Spec.Template.Spec})
		case "Pod":
			p := into[corev1.Pod](t, object)
			all = append(all, pod{ref(object), p.ObjectMeta, p.Spec})
		}
	}
	require.NotEmpty(t, all)
	return all
}

func TestPodsAreRestricted(t *testing.T) {
	t.Parallel()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	require.NoError(t, err)
	each(t, func(t *testing.T, objects []*unstructured.Unstructured) {
		for _, p := range pods(t, objects) {
			results := evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}, &p.metadata, &p.spec)
			if verdict := policy.AggregateCheckResults(results); !verdict.Allowed {
				t.Errorf("%s: %s", p.owner, verdict.ForbiddenDetail())
			}
			require.NotNil(t, p.spec.AutomountServiceAccountToken, p.owner)
			require.False(t, *p.spec.AutomountServiceAccountToken, p.owner)
			for _, c := range p.containers() {
				name := p.owner + " " + c.Name
				require.NotNil(t, c.SecurityContext.ReadOnlyRootFilesystem, name)
				require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem, name)
			}
		}
	})
}

func TestContainersAreComplete(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, objects []*unstructured.Unstructured) {
		for _, p := range pods(t, objects) {
			for _, c := range p.containers() {
				name := p.owner + " " + c.Name
				require.False(t, c.Resources.Requests.Cpu().IsZero(), name)
				require.False(t, c.Resources.Requests.Memory().IsZero(), name)
				require.False(t, c.Resources.Limits.Memory().IsZero(), name)
				require.Regexp(t, `(:[^:/]+|@sha256:[0-9a-f]{64})$`, c.Image, name)
				require.NotRegexp(t, `:latest$`, c.Image, name)
				seen := map[string]bool{}
				for _, e := range c.Env {
					require.Falsef(t, seen[e.Name], "%s has two variables %s", name, e.Name)
					seen[e.Name] = true
				}
			}
			if strings.HasPrefix(p.owner, "Pod/") {
				continue // of a test, which ends by itself
			}
			for _, c := range p.spec.Containers {
				require.NotNil(t, c.StartupProbe, p.owner)
				require.NotNil(t, c.LivenessProbe, p.owner)
				require.NotNil(t, c.ReadinessProbe, p.owner)
			}
		}
	})
}

// TestReferencesLead follows every name that one object has of another, as a typing error in one is no error in Kubernetes.
func TestReferencesLead(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, objects []*unstructured.Unstructured) {
		known := map[string]*unstructured.Unstructured{}
		for _, object := range objects {
			require.NotContains(t, known, ref(object))
			known[ref(object)] = object
			require.Contains(t, []string{"space", "fibstack", ""}, object.GetNamespace(), ref(object))
		}
		all := pods(t, objects)
		selected := func(selector map[string]string) []pod {
			return slices.DeleteFunc(slices.Clone(all), func(p pod) bool {
				return !labels.SelectorFromSet(selector).Matches(labels.Set(p.metadata.Labels))
			})
		}
		named := func(pods []pod, port string) bool {
			return len(pods) > 0 && !slices.ContainsFunc(pods, func(p pod) bool {
				return !slices.ContainsFunc(p.containers(), func(c corev1.Container) bool {
					return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool {
						return p.Name == port || strconv.Itoa(int(p.ContainerPort)) == port
					})
				})
			})
		}
		// What the values name instead of the chart.
		ours := func(name string) bool { return strings.HasPrefix(name, "release-") }
		for _, p := range all {
			if name := p.spec.ServiceAccountName; name != "default" {
				require.Contains(t, known, "ServiceAccount/"+name, p.owner)
			}
			for _, c := range p.containers() {
				for _, from := range c.EnvFrom {
					require.Contains(t, known, "ConfigMap/"+from.ConfigMapRef.Name, p.owner)
				}
				for _, e := range c.Env {
					if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && ours(e.ValueFrom.SecretKeyRef.Name) {
						secret := known["Secret/"+e.ValueFrom.SecretKeyRef.Name]
						require.NotNil(t, secret, p.owner)
						require.Contains(t, secret.Object["data"], e.ValueFrom.SecretKeyRef.Key, p.owner)
					}
				}
				for _, mount := range c.VolumeMounts {
					found := slices.ContainsFunc(p.spec.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name })
					claimed := known[p.owner].GetKind() == "StatefulSet" && mount.Name == "data"
					require.Truef(t, found || claimed, "%s mounts %s", p.owner, mount.Name)
				}
			}
		}
		for _, object := range objects {
			spec := func(path ...string) map[string]string {
				found, _, err := unstructured.NestedStringMap(object.Object, append([]string{"spec"}, path...)...)
				require.NoError(t, err)
				return found
			}
			list := func(path ...string) []any {
				found, _, err := unstructured.NestedSlice(object.Object, append([]string{"spec"}, path...)...)
				require.NoError(t, err)
				return found
			}
			switch object.GetKind() {
			case "Service":
				service := into[corev1.Service](t, object)
				for _, port := range service.Spec.Ports {
					require.True(t, named(selected(service.Spec.Selector), port.TargetPort.String()), ref(object))
				}
			case "PodDisruptionBudget":
				require.NotEmpty(t, selected(spec("selector", "matchLabels")), ref(object))
			case "HorizontalPodAutoscaler", "ScaledObject":
				target := known["Deployment/"+spec("scaleTargetRef")["name"]]
				require.NotNil(t, target, ref(object))
				_, has, _ := unstructured.NestedFieldNoCopy(target.Object, "spec", "replicas")
				require.False(t, has, "%s would set the replicas back with every upgrade", ref(target))
				for _, trigger := range list("triggers") {
					if name, has, _ := unstructured.NestedString(trigger.(map[string]any), "authenticationRef", "name"); has {
						require.Contains(t, known, "TriggerAuthentication/"+name)
					}
				}
			case "Ingress":
				for _, rule := range into[networkingv1.Ingress](t, object).Spec.Rules {
					for _, path := range rule.HTTP.Paths {
						service := known["Service/"+path.Backend.Service.Name]
						require.NotNil(t, service)
						require.True(t, slices.ContainsFunc(into[corev1.Service](t, service).Spec.Ports, func(p corev1.ServicePort) bool {
							return p.Name == path.Backend.Service.Port.Name
						}))
					}
				}
			case "HTTPRoute":
				for _, rule := range list("rules") {
					backend := rule.(map[string]any)["backendRefs"].([]any)[0].(map[string]any)
					service := known["Service/"+backend["name"].(string)]
					require.NotNil(t, service)
					require.True(t, slices.ContainsFunc(into[corev1.Service](t, service).Spec.Ports, func(p corev1.ServicePort) bool {
						return int64(p.Port) == backend["port"]
					}))
				}
			case "ServiceMonitor":
				selector := labels.SelectorFromSet(spec("selector", "matchLabels"))
				port := list("endpoints")[0].(map[string]any)["port"]
				require.True(t, slices.ContainsFunc(objects, func(o *unstructured.Unstructured) bool {
					return o.GetKind() == "Service" && selector.Matches(labels.Set(o.GetLabels())) &&
						slices.ContainsFunc(into[corev1.Service](t, o).Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == port })
				}), ref(object))
			case "PodMonitor":
				port := list("podMetricsEndpoints")[0].(map[string]any)["port"].(string)
				require.True(t, named(selected(spec("selector", "matchLabels")), port), ref(object))
			}
		}
	})
}

// TestPoliciesAllowTheArrowsOnly asks for each pair of the release's pods whether one may reach a port of the other.
func TestPoliciesAllowTheArrowsOnly(t *testing.T) {
	t.Parallel()
	objects := render(t, "Helm 4", chart+"/ci/everything-values.yaml")
	all := pods(t, objects)
	var policies []networkingv1.NetworkPolicy
	for _, object := range objects {
		if object.GetKind() == "NetworkPolicy" {
			policies = append(policies, into[networkingv1.NetworkPolicy](t, object))
		}
	}
	component := func(p pod) string { return p.metadata.Labels["app.kubernetes.io/component"] }
	matches := func(s metav1.LabelSelector, p pod) bool {
		selector, err := metav1.LabelSelectorAsSelector(&s)
		require.NoError(t, err)
		return selector.Matches(labels.Set(p.metadata.Labels))
	}
	// Whether a policy of one side names the other side and the port.
	allowed := func(self, other pod, port corev1.ContainerPort, rules func(networkingv1.NetworkPolicy) ([][]networkingv1.NetworkPolicyPeer, [][]networkingv1.NetworkPolicyPort)) bool {
		applies, permits := false, false
		for _, policy := range policies {
			if !matches(policy.Spec.PodSelector, self) {
				continue
			}
			applies = true
			require.Len(t, policy.Spec.PolicyTypes, 2)
			peers, ports := rules(policy)
			for i := range peers {
				peer := len(peers[i]) == 0 || slices.ContainsFunc(peers[i], func(p networkingv1.NetworkPolicyPeer) bool {
					return p.NamespaceSelector == nil && p.PodSelector != nil && matches(*p.PodSelector, other)
				})
				number := slices.ContainsFunc(ports[i], func(p networkingv1.NetworkPolicyPort) bool {
					return *p.Port == intstr.FromString(port.Name) || *p.Port == intstr.FromInt32(port.ContainerPort)
				})
				permits = permits || peer && number
			}
		}
		require.True(t, applies, self.owner)
		return permits
	}
	ingress := func(p networkingv1.NetworkPolicy) (peers [][]networkingv1.NetworkPolicyPeer, ports [][]networkingv1.NetworkPolicyPort) {
		for _, rule := range p.Spec.Ingress {
			peers, ports = append(peers, rule.From), append(ports, rule.Ports)
		}
		return peers, ports
	}
	egress := func(p networkingv1.NetworkPolicy) (peers [][]networkingv1.NetworkPolicyPeer, ports [][]networkingv1.NetworkPolicyPort) {
		for _, rule := range p.Spec.Egress {
			peers, ports = append(peers, rule.To), append(ports, rule.Ports)
		}
		return peers, ports
	}
	var arrows []string
	for _, from := range all {
		for _, to := range all {
			for _, c := range to.containers() {
				for _, port := range c.Ports {
					if allowed(from, to, port, egress) && allowed(to, from, port, ingress) {
						arrows = append(arrows, component(from)+" -> "+component(to)+" "+port.Name)
					}
				}
			}
		}
	}
	require.ElementsMatch(t, []string{
		"api -> postgresql postgresql", "api -> redis redis",
		"worker -> postgresql postgresql", "worker -> redis redis",
		"test -> api http", "test -> client http",
	}, arrows)
}

// TestQueriesAreOfMetricsThatExist reads the rules and the dashboards, and the source for the names of metrics.
func TestQueriesAreOfMetricsThatExist(t *testing.T) {
	t.Parallel()
	var source strings.Builder
	for _, file := range []string{"api/metrics.go", "worker/metrics.go", "internal/service/metrics.go"} {
		text, err := os.ReadFile(filepath.Join("../..", file))
		require.NoError(t, err)
		source.Write(text)
	}
	used := map[string]bool{} // recorded series
	check := func(t *testing.T, where, query string) {
		t.Helper()
		for _, selectors := range parser.ExtractSelectors(parseQuery(t, where, query)) {
			for _, matcher := range selectors {
				if matcher.Name == "__name__" && strings.HasPrefix(matcher.Value, "fibstack:") {
					used[matcher.Value] = true
				}
				// The names of the pool's metrics are those of its collector.
				if matcher.Name == "__name__" && strings.HasPrefix(matcher.Value, "fibstack_") && !strings.HasPrefix(matcher.Value, "fibstack_redis_pool_") {
					name := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(matcher.Value, "")
					require.Contains(t, source.String(), `"`+name+`"`, where)
				}
			}
		}
	}

	recorded := map[string]bool{}
	for _, rule := range readRules(t) {
		check(t, rule.Alert+rule.Record, rule.Expr)
		recorded[rule.Record] = true
	}
	for file, d := range readDashboards(t) {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				check(t, file+", "+p.Title, target.Expr)
			}
		}
	}
	for name := range used {
		require.Containsf(t, recorded, name, "no rule records %s", name)
	}
}

type rule struct {
	Alert, Record, Expr string
	Labels, Annotations map[string]string
}

func readRules(t *testing.T) (rules []rule) {
	t.Helper()
	files, err := filepath.Glob(chart + "/rules/*.yaml")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var groups struct{ Groups []struct{ Rules []rule } }
		require.NoError(t, yaml.Unmarshal(text, &groups))
		for _, group := range groups.Groups {
			rules = append(rules, group.Rules...)
		}
	}
	require.NotEmpty(t, rules)
	return rules
}

// TestEveryAlertSaysWhatToDo holds the alerts against their runbooks and their unit tests.
func TestEveryAlertSaysWhatToDo(t *testing.T) {
	t.Parallel()
	fires, silent := map[string]bool{}, map[string]bool{} // by name and severity; by name
	files, err := filepath.Glob(chart + "/tests/rules/*.yaml")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var unit struct {
			Tests []struct {
				Alerts []struct {
					Name     string `json:"alertname"`
					Expected []struct {
						Labels map[string]string `json:"exp_labels"`
					} `json:"exp_alerts"`
				} `json:"alert_rule_test"`
			}
		}
		require.NoError(t, yaml.Unmarshal(text, &unit))
		for _, test := range unit.Tests {
			for _, alert := range test.Alerts {
				silent[alert.Name] = silent[alert.Name] || len(alert.Expected) == 0
				for _, expected := range alert.Expected {
					fires[alert.Name+expected.Labels["severity"]] = true
				}
			}
		}
	}

	runbooks, err := filepath.Glob("../../docs/runbooks/*.md")
	require.NoError(t, err)
	unused := map[string]bool{}
	for _, runbook := range runbooks {
		unused[filepath.Base(runbook)] = true
	}
	alerts := slices.DeleteFunc(readRules(t), func(r rule) bool { return r.Alert == "" })
	for _, alert := range alerts {
		runbook := alert.Alert + ".md"
		require.FileExists(t, "../../docs/runbooks/"+runbook)
		require.Equal(t, "https://github.com/fibstack/fibstack/blob/main/docs/runbooks/"+runbook, alert.Annotations["runbook_url"])
		require.Contains(t, []string{"critical", "warning"}, alert.Labels["severity"], alert.Alert)
		require.NotEmpty(t, alert.Annotations["summary"], alert.Alert)
		require.Contains(t, alert.Annotations["description"], "$value", alert.Alert)
		require.Truef(t, fires[alert.Alert+alert.Labels["severity"]], "no unit test has %s of severity %s fire", alert.Alert, alert.Labels["severity"])
		require.Truef(t, silent[alert.Alert], "no unit test has %s not fire", alert.Alert)
	}
	for _, alert := range alerts {
		delete(unused, alert.Alert+".md")
	}
	require.Empty(t, unused, "runbooks without an alert")
}
