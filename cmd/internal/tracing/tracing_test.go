package tracing

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/corastream/corastream"
)

// TestTheEnvironmentTurnsTracesOnAndOff.
func TestTheEnvironmentTurnsTracesOnAndOff(t *testing.T) {
	const general, special = "http://a:4318", "http://b:4318/x"
	for _, c := range []struct {
		name  string
		env   map[string]string
		want  string
		usage string // where a usage error points
	}{
		{name: "nothing is set"},
		{name: "the general variable", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": general}, want: general},
		{name: "the special one goes first", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": general, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": special}, want: special},
		{name: "disabled", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": general, "OTEL_SDK_DISABLED": "true"}},
		{name: "no exporter", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": general, "OTEL_TRACES_EXPORTER": "none"}},
		{name: "the one there is", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": general, "OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, want: general},
		{name: "another exporter", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": general, "OTEL_TRACES_EXPORTER": "zipkin"}, usage: "OTEL_TRACES_EXPORTER"},
		{name: "another protocol", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": general, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, usage: "OTEL_EXPORTER_OTLP_PROTOCOL"},
		{name: "another protocol, for nothing", env: map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
				t.Setenv(name, c.env[name])
			}
			got, err := Wanted()
			if got != c.want || (err != nil) != (c.usage != "") || err != nil && (!errors.As(err, new(*corastream.UsageError)) || !strings.HasPrefix(err.Error(), c.usage)) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// TestCausesAreBounded: the oldest go first, and one that comes again takes no second place.
func TestCausesAreBounded(t *testing.T) {
	var c causes
	at := func(n int) corastream.Position { return corastream.Position{Topic: "t", Offset: int64(n)} }
	for n := range 3 * maxCauses {
		c.note(at(n), fmt.Sprint(n))
		c.note(at(n), fmt.Sprint(n))
	}
	if len(c.traces) != maxCauses || c.of(at(2*maxCauses-1)) != "" || c.of(at(2*maxCauses)) == "" || c.of(at(3*maxCauses-1)) == "" {
		t.Errorf("%d remembered", len(c.traces))
	}
}
