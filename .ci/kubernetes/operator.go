// Command kubernetes reads rendered manifests and decodes those of the Prometheus operator into its own types, strictly: an unknown key,
// or a value of another type, is a mistake. check.py holds the kinds of Kubernetes itself against the API's schemas.
//
//	kustomize build FOLDER | go run . NAME
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	documents "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := check(os.Stdin, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(r io.Reader, name string) error {
	n := 0
	for docs := documents.NewYAMLReader(bufio.NewReader(r)); ; {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		var meta metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(doc, &meta); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		var into any
		switch meta.APIVersion + " " + meta.Kind {
		case "monitoring.coreos.com/v1 PodMonitor":
			into = new(monitoring.PodMonitor)
		case "monitoring.coreos.com/v1 PrometheusRule":
			into = new(monitoring.PrometheusRule)
		default:
			continue
		}
		if err := yaml.UnmarshalStrict(doc, into); err != nil {
			return fmt.Errorf("%s: %s %s: %w", name, meta.Kind, meta.Name, err)
		}
		n++
	}
	if n > 0 {
		fmt.Printf("%s: %d resources fit the Prometheus operator's types\n", name, n)
	}
	return nil
}
