// Package aws holds what runs the stack on AWS Elastic Beanstalk, which is no Go but for its tests.
package aws

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stackTemplate has what the scripts ask of a stack: its outputs, and the parameter that says what runs.
const stackTemplate = `
Parameters:
  VersionLabel: {Type: String, Default: ""}
  Kept: {Type: String}
Resources:
  Bucket: {Type: AWS::S3::Bucket}
Outputs:
  ApplicationName: {Value: fibstack}
  EnvironmentName: {Value: fibstack-env}
  BucketName: {Value: !Ref Bucket}
  ExecutionRoleArn: {Value: "arn:aws:iam::123456789012:role/execution"}
  Kept: {Value: !Ref Kept}
`

// beanstalk stands in for the calls of Elastic Beanstalk that the emulator (moto) does not know, and passes all others
// on to it. Its environment runs what the stack's parameter VersionLabel says.
type beanstalk struct {
	emulator http.Handler

	mu       sync.Mutex
	versions []string // in the order in which they were made
	running  string
	health   string
	events   []string
}

func (b *beanstalk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body bytes.Buffer
	_, _ = body.ReadFrom(r.Body)
	r.Body = http.NoBody
	if body.Len() > 0 {
		r.Body = readCloser{bytes.NewReader(body.Bytes())}
	}
	form, _ := url.ParseQuery(body.String())
	b.mu.Lock()
	defer b.mu.Unlock()
	if !strings.Contains(r.Header.Get("Authorization"), "/elasticbeanstalk/") {
		if form.Get("Action") == "UpdateStack" {
			b.update(form)
		}
		b.emulator.ServeHTTP(w, r)
		return
	}
	var result strings.Builder
	action := form.Get("Action")
	switch action {
	case "DescribeApplicationVersions":
		wanted := form.Get("VersionLabels.member.1")
		for i, label := range b.versions {
			if wanted == "" || wanted == label {
				fmt.Fprintf(&result, "<member><VersionLabel>%s</VersionLabel><DateCreated>2026-01-01T00:00:%02dZ</DateCreated></member>", label, i)
			}
		}
		answer(w, action, "<ApplicationVersions>"+result.String()+"</ApplicationVersions>")
	case "CreateApplicationVersion":
		b.versions = append(b.versions, form.Get("VersionLabel"))
		answer(w, action, "")
	case "DescribeEnvironments":
		if b.running != "" {
			fmt.Fprintf(&result, "<member><EnvironmentName>fibstack-env</EnvironmentName><VersionLabel>%s</VersionLabel>"+
				"<Status>Ready</Status><Health>%s</Health><CNAME>fibstack.example.com</CNAME></member>", b.running, b.health)
		}
		answer(w, action, "<Environments>"+result.String()+"</Environments>")
	case "DescribeEvents":
		for _, message := range b.events {
			fmt.Fprintf(&result, "<member><EventDate>2026-01-01T00:00:00Z</EventDate><Severity>INFO</Severity><Message>%s</Message></member>", message)
		}
		answer(w, action, "<Events>"+result.String()+"</Events>")
	case "DescribeEnvironmentHealth":
		answer(w, action, "<Causes><member>100 % of the requests are failing with HTTP 5xx.</member></Causes>")
	default:
		http.Error(w, "not stood in for: "+action, http.StatusNotImplemented)
	}
}

// now is what runs, and which versions were made.
func (b *beanstalk) now() (running string, versions []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.running, slices.Clone(b.versions)
}

// update runs the version that the stack is to have.
func (b *beanstalk) update(form url.Values) {
	for i := 1; form.Has(fmt.Sprintf("Parameters.member.%d.ParameterKey", i)); i++ {
		if form.Get(fmt.Sprintf("Parameters.member.%d.ParameterKey", i)) == "VersionLabel" {
			b.running = form.Get(fmt.Sprintf("Parameters.member.%d.ParameterValue", i))
			b.events = append(b.events, "Environment update is starting with "+b.running+".")
		}
	}
}

func answer(w http.ResponseWriter, action, result string) {
	w.Header().Set("Content-Type", "text/xml")
	fmt.Fprintf(w, "<%[1]sResponse><%[1]sResult>%[2]s</%[1]sResult></%[1]sResponse>", action, result)
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// account is an emulated one, with a stack, that the scripts are run against by the real AWS CLI.
type account struct {
	*beanstalk
	t   *testing.T
	env []string
}

func newAccount(t *testing.T, health string) *account {
	t.Helper()
	for _, program := range []string{"moto_server", "aws"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed: the scripts are not run against the emulator", program)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	moto := exec.Command("moto_server", "-H", host, "-p", port)
	require.NoError(t, moto.Start())
	t.Cleanup(func() {
		_ = moto.Process.Kill()
		_ = moto.Wait()
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, time.Minute, 50*time.Millisecond)

	stand := &beanstalk{emulator: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address}), health: health}
	server := httptest.NewServer(stand)
	t.Cleanup(server.Close)
	a := &account{beanstalk: stand, t: t, env: append(os.Environ(),
		"AWS_ENDPOINT_URL="+server.URL, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_REGION=eu-central-1",
		"AWS_DEFAULT_REGION=eu-central-1", "AWS_CONFIG_FILE=/dev/null", "INTERVAL=0.2", "NO_PROXY=127.0.0.1")}
	_, err = a.run("aws", "cloudformation", "create-stack", "--stack-name", "fibstack", "--template-body", stackTemplate,
		"--parameters", "ParameterKey=Kept,ParameterValue=as-it-was")
	require.NoError(t, err)
	return a
}

func (a *account) run(program string, args ...string) (string, error) {
	a.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = a.env
	out, err := cmd.CombinedOutput()
	a.t.Logf("%s %s\n%s", program, strings.Join(args, " "), out)
	return string(out), err
}

func TestDeployAndRollback(t *testing.T) {
	a := newAccount(t, "Green")

	out, err := a.run("./deploy", "--dry-run", "--prefix", "acme/", "v1")
	require.NoError(t, err)
	require.Contains(t, out, "Would upload")
	running, versions := a.now()
	require.Empty(t, versions, "a dry run makes nothing")
	require.Empty(t, running)

	out, err = a.run("./deploy", "--prefix", "acme/", "v1")
	require.NoError(t, err)
	require.Contains(t, out, "Green: http://fibstack.example.com")
	require.Contains(t, out, "Environment update is starting with v1-")
	first, versions := a.now()
	require.Equal(t, []string{first}, versions)
	out, err = a.run("aws", "cloudformation", "describe-stacks", "--query", "Stacks[0].Outputs[?OutputKey=='Kept'].OutputValue", "--output", "text")
	require.NoError(t, err)
	require.Contains(t, out, "as-it-was", "the stack's other parameters stay")
	out, err = a.run("bash", "-c", `aws s3 cp "s3://$(aws cloudformation describe-stacks --query "Stacks[0].Outputs[?OutputKey=='BucketName'].OutputValue" --output text)/versions/`+
		first+`.zip" - | python3 -c 'import io, sys, zipfile; print(zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read())).read("Dockerrun.aws.json").decode())'`)
	require.NoError(t, err)
	require.Contains(t, out, `"acme/fibstack-api:v1"`)
	require.NotContains(t, out, "${")

	_, err = a.run("./deploy", "--prefix", "acme/", "v1")
	require.NoError(t, err, "the same again is no error")
	_, versions = a.now()
	require.Equal(t, []string{first}, versions)

	_, err = a.run("./deploy", "--prefix", "acme/", "v2")
	require.NoError(t, err)
	second, _ := a.now()
	require.NotEqual(t, first, second)

	out, err = a.run("./rollback", "--dry-run")
	require.NoError(t, err)
	require.Contains(t, out, "Would run the version "+first)
	running, _ = a.now()
	require.Equal(t, second, running)
	_, err = a.run("./rollback")
	require.NoError(t, err)
	running, _ = a.now()
	require.Equal(t, first, running)

	out, err = a.run("./rollback")
	require.Error(t, err)
	require.Contains(t, out, "There is no version before "+first)
	_, err = a.run("./rollback", second)
	require.NoError(t, err)
	running, _ = a.now()
	require.Equal(t, second, running)
}

func TestAnEnvironmentThatIsNotWellIsSaid(t *testing.T) {
	a := newAccount(t, "Red")
	a.env = append(a.env, "TIMEOUT=2")
	out, err := a.run("./deploy", "v1")
	require.Error(t, err)
	require.Contains(t, out, "Ready Red v1-")
	require.Contains(t, out, "failing with HTTP 5xx")
	require.Contains(t, out, "aws/rollback")
}

func TestBadCallsAreSaid(t *testing.T) {
	for args, want := range map[string]string{
		"":                 "TAG             tag of the four images",
		"latest":           "latest is whatever was pushed last",
		"--prefix acme v1": "must end with a slash",
		"--unknown v1":     "TAG             tag of the four images",
		"a/b":              "is no tag of an image",
	} {
		out, err := exec.Command("./deploy", strings.Fields(args)...).CombinedOutput()
		require.Error(t, err, args)
		require.Contains(t, string(out), want, args)
	}
}
