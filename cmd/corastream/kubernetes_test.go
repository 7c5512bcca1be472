package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream/cmd/internal/node"
)

// TestKubernetesPodsCallWhatThereIs: every pod calls a command and flags there are, mounts its configuration where the call names it and
// its volume where the configuration has the data folder, asks probes that are answered without a token, may write nowhere else, and has
// the time to end in order.
func TestKubernetesPodsCallWhatThereIs(t *testing.T) {
	user := dockerUser(t)
	var paths struct {
		Paths map[string]map[string]struct{ Security *[]any }
	}
	b, err := os.ReadFile("../../serve/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &paths); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, folder := range []string{"up", "cluster"} {
		list, cfg, config := kubeFolder(t, folder)
		_, port, err := net.SplitHostPort(cfg.HTTP.Listen)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			if r.Kind != "StatefulSet" && r.Kind != "Deployment" {
				continue
			}
			seen++
			where := folder + ", " + r.Metadata.Name
			spec := r.Spec.Template.Spec
			if len(spec.Containers) != 1 {
				t.Fatalf("%s: %d containers", where, len(spec.Containers))
			}
			c := spec.Containers[0]
			parses(t, where, "corastream "+strings.Join(c.Args, " "))
			if i := slices.Index(c.Args, "--stages"); i >= 0 {
				if _, err := parseStages(strings.Split(c.Args[i+1], ",")); err != nil {
					t.Errorf("%s: %v", where, err)
				}
				if err := checkCluster(cfg); err != nil {
					t.Errorf("%s: %v", where, err)
				}
			} else if cfg.Kafka.Shards > 0 || r.Spec.Replicas != 1 {
				t.Errorf("%s: `up` keeps all state to itself: %d shards, %d pods", where, cfg.Kafka.Shards, r.Spec.Replicas)
			}

			// Folders.
			mounts := map[string]string{}
			for _, m := range c.VolumeMounts {
				mounts[m.Name] = m.MountPath
				if m.ReadOnly != (m.Name == "config" || m.Name == "kafka-tls") {
					t.Errorf("%s: %s, readOnly: %v", where, m.MountPath, m.ReadOnly)
				}
			}
			kept := map[string]bool{}
			for _, claim := range r.Spec.VolumeClaimTemplates {
				kept[claim.Metadata.Name] = true
			}
			configMap := ""
			for _, v := range spec.Volumes {
				if v.Name == "config" {
					configMap = v.ConfigMap.Name
				}
				kept[v.Name] = kept[v.Name] || v.Ephemeral != nil
			}
			if got := mounts["config"] + "/" + filepath.Base(config); !slices.Contains(c.Args, got) || configMap != filepath.Dir(config) {
				t.Errorf("%s: the call %v does not name %s of ConfigMap %s", where, c.Args, got, configMap)
			}
			if mounts["data"] != cfg.Data || !kept["data"] {
				t.Errorf("%s: the data folder is %s, the volume on %q", where, cfg.Data, mounts["data"])
			}
			if !strings.HasPrefix(cfg.LLM.File, "/models/") {
				t.Errorf("%s: the image has no %s", where, cfg.LLM.File)
			}

			// Probes and ports.
			for name, p := range map[string]kubeProbe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
				get, ok := paths.Paths[p.HTTPGet.Path]["get"]
				if !ok || get.Security == nil || len(*get.Security) > 0 || p.HTTPGet.Port != "http" {
					t.Errorf("%s: the %s probe asks %q on port %q, which no route answers without a token", where, name, p.HTTPGet.Path, p.HTTPGet.Port)
				}
			}
			if len(c.Ports) != 1 || c.Ports[0].Name != "http" || strconv.Itoa(c.Ports[0].ContainerPort) != port {
				t.Errorf("%s: ports %v, the configuration listens on %s", where, c.Ports, port)
			}

			// Secrets, and what the pod may do.
			memory := bytesOf(t, c.Resources.Limits.Memory)
			for _, e := range c.Env {
				ref := e.ValueFrom.SecretKeyRef
				switch e.Name {
				case node.EnvToken, node.EnvPassword:
					if ref.Key != e.Name || ref.Name != "corastream" || ref.Optional != (e.Name == node.EnvPassword) {
						t.Errorf("%s: %s comes from %+v", where, e.Name, ref)
					}
				case "GOMEMLIMIT":
					if limit := bytesOf(t, strings.TrimSuffix(e.Value, "B")); limit >= memory || limit < memory/2 {
						t.Errorf("%s: GOMEMLIMIT %s beside a limit of %s", where, e.Value, c.Resources.Limits.Memory)
					}
				case "TMPDIR":
					if e.Value != cfg.Data {
						t.Errorf("%s: temporary files go to %s, which can not be written", where, e.Value)
					}
				case "POD_NAME":
				default:
					t.Errorf("%s: the program reads no %s", where, e.Name)
				}
			}
			if bytesOf(t, c.Resources.Requests.Memory) > memory {
				t.Errorf("%s: more memory requested than allowed", where)
			}
			s := c.Security
			if !s.ReadOnlyRootFilesystem || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) {
				t.Errorf("%s: securityContext %+v", where, s)
			}
			if p := spec.Security; p.RunAsUser != user || p.FSGroup != user || !p.RunAsNonRoot {
				t.Errorf("%s: runs as %+v, the image as %d", where, p, user)
			}
			if need := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds)*time.Second + time.Duration(cfg.HTTP.ShutdownTimeoutMS)*time.Millisecond + 30*time.Second; time.Duration(spec.Grace)*time.Second < need {
				t.Errorf("%s: %d s to end, it may need %s", where, spec.Grace, need)
			}
		}
	}
	if seen != 3 {
		t.Errorf("%d workloads seen", seen)
	}
}

// TestKubernetesSelectorsFindTheirPods: Services and disruption budgets name labels that pods have, and ports that they have.
func TestKubernetesSelectorsFindTheirPods(t *testing.T) {
	seen := 0
	for _, folder := range []string{"up", "cluster"} {
		list, cfg, _ := kubeFolder(t, folder)
		pods, services := map[string]string{}, map[string]bool{}
		for _, r := range list {
			if c := r.Spec.Template.Metadata.Labels[component]; c != "" {
				pods[c] = r.Metadata.Name
			}
			services[r.Metadata.Name] = services[r.Metadata.Name] || r.Kind == "Service"
		}
		for _, r := range list {
			seen++
			selector, _ := r.Spec.Selector.(map[string]any)
			if inner, ok := selector["matchLabels"].(map[string]any); ok {
				selector = inner
			}
			c, _ := selector[component].(string)
			if pods[c] == "" || len(selector) != 1 {
				t.Errorf("%s: %s %s selects %v, pods are %v", folder, r.Kind, r.Metadata.Name, selector, pods)
			}
			switch r.Kind {
			case "Service":
				if len(r.Spec.Ports) != 1 || r.Spec.Ports[0].TargetPort != "http" || !strings.HasSuffix(cfg.HTTP.Listen, fmt.Sprint(":", r.Spec.Ports[0].Port)) {
					t.Errorf("%s: Service %s has ports %v", folder, r.Metadata.Name, r.Spec.Ports)
				}
			case "PodDisruptionBudget":
				if r.Spec.MaxUnavailable != 1 {
					t.Errorf("%s: %s lets %d pods go at once", folder, r.Metadata.Name, r.Spec.MaxUnavailable)
				}
			case "StatefulSet":
				if !services[r.Spec.ServiceName] {
					t.Errorf("%s: no Service %q", folder, r.Spec.ServiceName)
				}
				if n := r.Spec.Replicas; folder == "cluster" && (cfg.Kafka.Shards < 2*n || cfg.Kafka.Shards > 4*n) {
					t.Errorf("%d shards on %d pods: two to four times as many are right", cfg.Kafka.Shards, n)
				}
			}
		}
	}
	if seen < 8 {
		t.Errorf("only %d resources seen", seen)
	}
}

const component = "app.kubernetes.io/component"

// TestKubernetesAlertsAreThoseOfTheFile: the PrometheusRule has every rule of alerts.yaml, the example's too, and the number of shards of each configuration.
func TestKubernetesAlertsAreThoseOfTheFile(t *testing.T) {
	type groups []struct {
		Name  string
		Rules []map[string]any
	}
	want := yamlFile[struct{ Groups groups }](t, deploy+"alerts.yaml").Groups
	got := yamlFile[struct{ Spec struct{ Groups groups } }](t, kubernetes+"monitoring/prometheusrule.yaml").Spec.Groups
	if len(want) != 1 || len(got) != 2 || !reflect.DeepEqual(got[0], want[0]) {
		t.Errorf("alerts.yaml has\n%v\nprometheusrule.yaml has\n%v", want, got)
	}
	monitor, err := os.ReadFile(kubernetes + "monitoring/podmonitor.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(monitor), "key: "+node.EnvToken) {
		t.Errorf("the PodMonitor does not show the token")
	}
	_, cfg, _ := kubeFolder(t, "cluster")
	if expr := fmt.Sprint(got[1].Rules[0]["expr"]); expr != fmt.Sprintf("sum(corastream_shards_owned) < %d", cfg.Kafka.Shards) {
		t.Errorf("%q, and %d shards", expr, cfg.Kafka.Shards)
	}
	_, cfg, _ = kubeFolder(t, "example")
	overlay, err := os.ReadFile(kubernetes + "example/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(overlay), fmt.Sprintf(`"sum(corastream_shards_owned) < %d"`, cfg.Kafka.Shards)) {
		t.Errorf("the example has %d shards, and its alert another number", cfg.Kafka.Shards)
	}
	if err := checkCluster(cfg); err != nil || cfg.Kafka.Create.Partitions%cfg.Kafka.Shards != 0 {
		t.Errorf("the example: %v, %d partitions for %d shards", err, cfg.Kafka.Create.Partitions, cfg.Kafka.Shards)
	}
}
