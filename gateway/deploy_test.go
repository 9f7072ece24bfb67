package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The files for deployment say what the gateway understands.
func TestDeployFiles(t *testing.T) {
	dify, err := os.ReadFile("deploy/limits.dify.toml")
	if err != nil {
		t.Fatal(err)
	}
	k8s, err := os.ReadFile("deploy/kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(k8s), "limits.toml: |\n")
	text, _, ok2 := strings.Cut(text, "---\n")
	if !ok || !ok2 {
		t.Fatal("kubernetes.yaml has no limits.toml")
	}
	for name, data := range map[string][]byte{"dify": dify, "kubernetes": []byte(regexp.MustCompile(`(?m)^    `).ReplaceAllString(text, ""))} {
		file := filepath.Join(t.TempDir(), "limits.toml")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		if code := run(context.Background(), []string{"gateway", "check", file}, strings.NewReader(""), &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), "/openai/ -> https://api.openai.com/v1/") {
			t.Errorf("%s: exit code %d: %s%s", name, code, stdout.String(), stderr.String())
		}
	}
}

// What limits.dify.toml has to be taken out of a comment for leads one model elsewhere, and changes nothing for the others.
func TestDifyModels(t *testing.T) {
	dify, err := os.ReadFile("deploy/limits.dify.toml")
	if err != nil {
		t.Fatal(err)
	}
	check := func(data []byte) []string {
		file := filepath.Join(t.TempDir(), "limits.toml")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), []string{"gateway", "check", file}, strings.NewReader(""), &stdout, &stderr); code != exitOK {
			t.Fatalf("exit code %d: %s", code, stderr.String())
		}
		return strings.Split(strings.TrimSpace(stdout.String()), "\n")
	}
	before, after := check(dify), check(regexp.MustCompile(`(?m)^#([a-z\[])`).ReplaceAll(dify, []byte("$1")))
	const split = "http://0.0.0.0:8080/openai/ for gpt-4o-mini, gpt-4o-mini-* -> https://api.openai.com/v1/ (openai-mini, 1 key)"
	if !slices.Contains(after, split) || len(after) != len(before)+2 {
		t.Errorf("with the example check says %q", after)
	}
	for _, line := range before {
		if !slices.Contains(after, line) {
			t.Errorf("with the example check lacks %q", line)
		}
	}
}

// systemd understands the unit.
func TestUnit(t *testing.T) {
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze in PATH: the unit is not checked")
	}
	unit, err := os.ReadFile("deploy/flyball-gateway.service")
	if err != nil {
		t.Fatal(err)
	}
	const program = "ExecStart=/usr/local/bin/flyball-gateway "
	if !bytes.Contains(unit, []byte(program)) {
		t.Fatalf("the unit has no %q", program)
	}
	// It wants the program to be there.
	file := filepath.Join(t.TempDir(), "flyball-gateway.service")
	if err := os.WriteFile(file, bytes.Replace(unit, []byte(program), []byte("ExecStart=/bin/true "), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(verify, "verify", file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// The rules for alerts fire and rest as alerts_test.yaml says.
func TestAlerts(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if strings.Contains(os.Getenv("FLYBALL_REQUIRE"), "promtool") {
			t.Fatal(err)
		}
		t.Skip("no promtool in PATH: the rules for alerts are not tried")
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = "deploy"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// yamlFile returns the documents of a YAML file, read by a Python that can; without one the test is skipped.
func yamlFile(t *testing.T, path string) (docs []map[string]any) {
	t.Helper()
	if exec.Command("python3", "-c", "import yaml").Run() != nil {
		t.Skip("no Python with PyYAML: YAML files are not read")
	}
	out, err := exec.Command("python3", "-c", "import json,sys,yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", path, err, out)
	}
	if err := json.Unmarshal(out, &docs); err != nil {
		t.Fatal(err)
	}
	return docs
}

// at returns what is at a path of a document; nil when there is nothing.
func at(doc any, path ...string) any {
	for _, p := range path {
		m, _ := doc.(map[string]any)
		if l, ok := doc.([]any); ok && len(l) > 0 && p == "0" {
			doc = l[0]
			continue
		}
		doc = m[p]
	}
	return doc
}

// The compose file and the manifest name the same ports, files and times as the image and the gateway.
func TestContainers(t *testing.T) {
	docker, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{`EXPOSE 8080 9090`, `ENTRYPOINT ["/gateway"]`, `CMD ["--config", "/etc/flyball/limits.toml"]`} {
		if !bytes.Contains(docker, []byte("\n"+line+"\n")) {
			t.Errorf("the Dockerfile has no line %s", line)
		}
	}
	compose := yamlFile(t, "deploy/compose.yaml")[0]
	service := at(compose, "services", "flyball")
	if v, _ := at(service, "volumes", "0").(string); !strings.Contains(v, ":/etc/flyball:") {
		t.Errorf("compose.yaml mounts %v, and the image reads /etc/flyball/limits.toml, which editors put another file in the place of", v)
	}
	if v, _ := at(service, "ports", "0").(string); v != "127.0.0.1:9090:9090" {
		t.Errorf("compose.yaml has the port %v, want the page's, for this machine only", v)
	}
	networks, _ := at(service, "networks").([]any)
	defined, _ := at(compose, "networks").(map[string]any)
	for _, n := range networks {
		if _, ok := defined[n.(string)]; !ok && n != "default" {
			t.Errorf("compose.yaml does not define the network %v", n)
		}
	}
	kinds := map[string]any{}
	for _, doc := range yamlFile(t, "deploy/kubernetes.yaml") {
		kinds[at(doc, "kind").(string)] = doc
	}
	deployment := kinds["Deployment"]
	pod := at(deployment, "spec", "template", "spec")
	container := at(pod, "containers", "0")
	if labels, selector := at(deployment, "spec", "template", "metadata", "labels", "app"), at(deployment, "spec", "selector", "matchLabels", "app"); labels == nil || labels != selector || at(kinds["Service"], "spec", "selector", "app") != labels {
		t.Errorf("the labels of kubernetes.yaml do not go together: %v, %v, %v", labels, selector, at(kinds["Service"], "spec", "selector"))
	}
	for _, probe := range []string{"livenessProbe", "readinessProbe"} {
		path, _ := at(container, probe, "httpGet", "path").(string)
		if path != "/healthz" && path != "/readyz" {
			t.Errorf("the %s asks for %q", probe, path)
		}
	}
	if grace, _ := at(pod, "terminationGracePeriodSeconds").(float64); grace <= 300 {
		t.Errorf("pods have %v s to end, want more than drain_timeout, 5 minutes", grace)
	}
	if at(kinds["ConfigMap"], "data", "limits.toml") == nil {
		t.Error("kubernetes.yaml has no limits.toml")
	}
}

// What the image is built from is all that the build needs: the Dockerfile's command finds its packages in a copy of the repository without
// what .dockerignore leaves out, with the Go that the image has.
func TestDockerfileBuilds(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: copies the repository")
	}
	docker, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	build := regexp.MustCompile(`(?m)^RUN CGO_ENABLED=0 go build (.*) -o /gateway (\./\S+)$`).FindSubmatch(docker)
	image := regexp.MustCompile(`(?m)^FROM golang:(\S+) AS build$`).FindSubmatch(docker)
	if build == nil || image == nil {
		t.Fatalf("the Dockerfile is not as it is read here:\n%s", docker)
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if m := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod); m == nil || string(m[1]) != string(image[1]) {
		t.Errorf("the image has Go %s, and go.mod says %s", image[1], m)
	}
	ignore, err := os.ReadFile("Dockerfile.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel("..", path)
		for _, pattern := range strings.Fields(string(ignore)) {
			if name, any := strings.CutPrefix(pattern, "**/"); any && d.Name() == name || rel == pattern {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(dir, rel), 0o755)
		}
		if !slices.Contains([]string{".go", ".mod", ".sum", ".work", ".toml", ".html", ".css", ".js", ".lua", ".json", ".txt", ".tmpl"}, filepath.Ext(path)) {
			return nil // nothing that is built
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, rel), data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "list", "-deps", string(build[2]))
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("flyball/gateway\n")) {
		t.Errorf("%v: %v\n%s", cmd.Args, err, out)
	}
}
