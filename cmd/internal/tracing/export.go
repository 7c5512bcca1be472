package tracing

import (
	"context"
	"errors"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/corastream/corastream"
)

// service is service.name in every trace; OTEL_SERVICE_NAME goes first.
const service = "corastream"

// endpoints are the variables that turn traces on, the more special one first.
var endpoints = []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"}

// Wanted returns the address of the collector that the environment names, and "" when traces are off. A setting that is not built in,
// such as another exporter, is a usage error.
//
// The OTEL_* variables alone configure traces, because every program of a fleet reads the same ones. Besides the collector's address they
// give headers (a secret belongs there), timeouts, compression, certificates, the sampler, OTEL_BSP_* and OTEL_RESOURCE_ATTRIBUTES.
func Wanted() (string, error) {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return "", nil
	}
	where := ""
	for _, name := range endpoints {
		if v := os.Getenv(name); where == "" && v != "" {
			where = v
		}
	}
	switch v := os.Getenv("OTEL_TRACES_EXPORTER"); v {
	case "", "otlp":
	case "none":
		return "", nil
	default:
		return "", corastream.Usagef("OTEL_TRACES_EXPORTER", "choose otlp or none", "%.40q is not built in", v)
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if v := os.Getenv(name); where != "" && v != "" && v != "http/protobuf" {
			return "", corastream.Usagef(name, "choose http/protobuf; a collector takes it on port 4318", "%.40q is not built in", v)
		}
	}
	return where, nil
}

// Exporter owns the OpenTelemetry provider that batches and sends spans. A nil Exporter means that traces are off.
type Exporter struct {
	provider *sdktrace.TracerProvider
	version  string
}

// Open makes the exporter without connecting. It returns nil when no collector is configured. A collector that is away costs spans and
// nothing else. version goes into every trace as service.version.
func Open(ctx context.Context, version string, log zerolog.Logger) (*Exporter, error) {
	where, err := Wanted()
	if err != nil || where == "" {
		return nil, err
	}
	otel.SetErrorHandler(&undelivered{log: log})
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, corastream.Usagef(endpoints[1], "see the OTEL_EXPORTER_OTLP_* variables", "%v", err)
	}
	// Later options override earlier ones, so the environment overrides the built-in name.
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(attribute.String("service.name", service), attribute.String("service.version", version)), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, corastream.Usagef("OTEL_RESOURCE_ATTRIBUTES", "write KEY=VALUE,KEY=VALUE", "%v", err)
	}
	if u, err := url.Parse(where); err == nil {
		where = u.Redacted()
	}
	log.Info().Str("endpoint", where).Msg("sending traces")
	return &Exporter{provider: sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithBatcher(exporter)), version: version}, nil
}

// Close sends the spans that still wait, for 5 s at most.
func (t *Exporter) Close() error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		otel.Handle(err)
	}
	return nil
}

// undelivered logs the SDK's errors, one a minute, because a collector that is away fails every few seconds.
type undelivered struct {
	log  zerolog.Logger
	last atomic.Int64
}

// Handle implements otel.ErrorHandler.
func (u *undelivered) Handle(err error) {
	now, last := time.Now().Unix(), u.last.Load()
	if now-last >= 60 && u.last.CompareAndSwap(last, now) {
		u.log.Warn().Err(err).Msg("spans are lost (fix: see OTEL_EXPORTER_OTLP_ENDPOINT and the collector); said once a minute")
	}
}
