package main

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/corastream/corastream/cmd/internal/node"
)

// The types below hold those parts of docs/deploy/kubernetes that kubernetes_test.go compares with the program. `make check` holds
// whole manifests against the published schemas.
type (
	kubeMeta struct {
		Name   string            `yaml:"name"`
		Labels map[string]string `yaml:"labels"`
	}
	kubeProbe struct {
		HTTPGet struct {
			Path string `yaml:"path"`
			Port string `yaml:"port"`
		} `yaml:"httpGet"`
	}
	kubeContainer struct {
		Args []string `yaml:"args"`
		Env  []struct {
			Name      string `yaml:"name"`
			Value     string `yaml:"value"`
			ValueFrom struct {
				SecretKeyRef struct {
					Name, Key string
					Optional  bool
				} `yaml:"secretKeyRef"`
			} `yaml:"valueFrom"`
		} `yaml:"env"`
		Ports []struct {
			Name          string `yaml:"name"`
			ContainerPort int    `yaml:"containerPort"`
		} `yaml:"ports"`
		StartupProbe   kubeProbe `yaml:"startupProbe"`
		LivenessProbe  kubeProbe `yaml:"livenessProbe"`
		ReadinessProbe kubeProbe `yaml:"readinessProbe"`
		Lifecycle      struct {
			PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
		} `yaml:"lifecycle"`
		Resources struct{ Requests, Limits struct{ CPU, Memory string } } `yaml:"resources"`
		Security  struct {
			ReadOnlyRootFilesystem   bool                    `yaml:"readOnlyRootFilesystem"`
			AllowPrivilegeEscalation *bool                   `yaml:"allowPrivilegeEscalation"`
			Capabilities             struct{ Drop []string } `yaml:"capabilities"`
		} `yaml:"securityContext"`
		VolumeMounts []struct {
			Name      string `yaml:"name"`
			MountPath string `yaml:"mountPath"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
	}
	kubeResource struct {
		Kind     string
		Metadata kubeMeta
		Spec     struct {
			Replicas    int    `yaml:"replicas"`
			ServiceName string `yaml:"serviceName"`
			Selector    any    `yaml:"selector"` // labels in a Service, else labels below matchLabels
			Ports       []struct {
				Port       int    `yaml:"port"`
				TargetPort string `yaml:"targetPort"`
			} `yaml:"ports"`
			MaxUnavailable int `yaml:"maxUnavailable"`
			Template       struct {
				Metadata kubeMeta
				Spec     struct {
					Security struct {
						RunAsUser    int  `yaml:"runAsUser"`
						FSGroup      int  `yaml:"fsGroup"`
						RunAsNonRoot bool `yaml:"runAsNonRoot"`
					} `yaml:"securityContext"`
					Grace      int             `yaml:"terminationGracePeriodSeconds"`
					Containers []kubeContainer `yaml:"containers"`
					Volumes    []struct {
						Name      string
						ConfigMap struct{ Name string } `yaml:"configMap"`
						Ephemeral map[string]any        `yaml:"ephemeral"`
					} `yaml:"volumes"`
				}
			}
			VolumeClaimTemplates []struct{ Metadata kubeMeta } `yaml:"volumeClaimTemplates"`
		}
	}
	kustomization struct {
		Resources          []string `yaml:"resources"`
		ConfigMapGenerator []struct {
			Name  string
			Files []string
		} `yaml:"configMapGenerator"`
	}
)

const kubernetes = deploy + "kubernetes/"

// yamlFile reads a YAML file of one document.
func yamlFile[T any](t *testing.T, file string) (v T) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return v
}

// kubeFolder reads a folder's resources and its configuration, which must load with a token and be refused without one.
func kubeFolder(t *testing.T, folder string) (list []kubeResource, cfg node.Config, config string) {
	t.Helper()
	k := yamlFile[kustomization](t, kubernetes+folder+"/kustomization.yaml")
	if len(k.ConfigMapGenerator) != 1 || len(k.ConfigMapGenerator[0].Files) != 1 {
		t.Fatalf("%s: not one configuration: %v", folder, k.ConfigMapGenerator)
	}
	config = k.ConfigMapGenerator[0].Name + "/" + k.ConfigMapGenerator[0].Files[0]
	file := kubernetes + folder + "/" + k.ConfigMapGenerator[0].Files[0]
	t.Setenv(node.EnvToken, "")
	if _, err := node.Load(file); err == nil {
		t.Errorf("%s: open to the network without a token", file)
	}
	t.Setenv(node.EnvToken, "0123456789abcdef0123")
	t.Setenv(node.EnvPassword, "0123456789abcdef")
	cfg, err := node.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range k.Resources {
		if !strings.HasSuffix(name, ".yaml") {
			continue // the base of an overlay
		}
		b, err := os.ReadFile(kubernetes + folder + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range strings.Split(string(b), "\n---\n") {
			var r kubeResource
			if err := yaml.Unmarshal([]byte(doc), &r); err != nil {
				t.Fatalf("%s/%s: %v", folder, name, err)
			}
			list = append(list, r)
		}
	}
	return list, cfg, config
}

// dockerUser is the number that the image runs as.
func dockerUser(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(deploy + "Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^USER (\d+):`).FindSubmatch(b)
	if m == nil {
		t.Fatal("the Dockerfile has no USER")
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// bytesOf reads 2Gi and 1536Mi.
func bytesOf(t *testing.T, s string) int {
	t.Helper()
	shift, ok := map[string]int{"Mi": 20, "Gi": 30}[s[max(0, len(s)-2):]]
	n, err := strconv.Atoi(s[:max(0, len(s)-2)])
	if err != nil || !ok {
		t.Fatalf("%q is not a number of Mi or Gi", s)
	}
	return n << shift
}
