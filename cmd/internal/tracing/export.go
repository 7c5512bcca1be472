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

// Config says where traces go: OpenTelemetry's protocol (OTLP) over HTTP, protobuf. Off while neither `endpoint` nor the standard
// variables OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_TRACES_ENDPOINT name a collector. The other OTEL_* variables hold too:
// headers (a secret belongs there), timeouts, compression, certificates, OTEL_BSP_*, OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME.
type Config struct {
	// Endpoint is a collector, as http://127.0.0.1:4318; without a path, /v1/traces is added. Default "": what the environment says.
	Endpoint string `yaml:"endpoint"`
	// Service is service.name in every trace; OTEL_SERVICE_NAME goes first. Default corastream.
	Service string `yaml:"-"`
	// Sample is the share of the traces begun here that are kept; one that came with a request or an event is kept as its beginning
	// decided. OTEL_TRACES_SAMPLER goes first. Default 1, range 0..1.
	Sample float64 `yaml:"sample"`
}

// Default sends nothing.
func Default() Config { return Config{Service: "corastream", Sample: 1} }

// Validate reports all problems at once.
func (c Config) Validate() error {
	var errs []error
	if c.Endpoint != "" {
		if u, err := url.Parse(c.Endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			errs = append(errs, corastream.Usagef("endpoint", "write http://HOST:4318; a password belongs into OTEL_EXPORTER_OTLP_HEADERS", "it is not the address of a collector"))
		}
	}
	if c.Service == "" {
		errs = append(errs, corastream.Usagef("service", "name the service", "it is empty"))
	}
	if !(c.Sample >= 0 && c.Sample <= 1) {
		errs = append(errs, corastream.Usagef("sample", "choose a share from 0 to 1", "%v is out of range", c.Sample))
	}
	return errors.Join(errs...)
}

// endpoints are the variables that turn traces on, the more special one first.
var endpoints = []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"}

// Wanted returns the address that traces are sent to, and "" when they are off. A setting of the environment that is not built in, such
// as another exporter, is a usage error.
func (c Config) Wanted() (string, error) {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return "", nil
	}
	where := c.Endpoint
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
func Open(ctx context.Context, c Config, version string, log zerolog.Logger) (*Exporter, error) {
	where, err := c.Wanted()
	if err != nil || where == "" {
		return nil, err
	}
	var options []otlptracehttp.Option
	if c.Endpoint != "" {
		options = append(options, otlptracehttp.WithEndpointURL(c.Endpoint))
	}
	otel.SetErrorHandler(&undelivered{log: log})
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, corastream.Usagef("telemetry.endpoint", "see the OTEL_EXPORTER_OTLP_* variables", "%v", err)
	}
	// Later options override earlier ones, so the environment overrides the configuration.
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(attribute.String("service.name", c.Service), attribute.String("service.version", version)), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, corastream.Usagef("OTEL_RESOURCE_ATTRIBUTES", "write KEY=VALUE,KEY=VALUE", "%v", err)
	}
	provider := []sdktrace.TracerProviderOption{sdktrace.WithResource(about), sdktrace.WithBatcher(exporter)}
	if os.Getenv("OTEL_TRACES_SAMPLER") == "" {
		provider = append(provider, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(c.Sample))))
	}
	if u, err := url.Parse(where); err == nil {
		where = u.Redacted()
	}
	log.Info().Str("endpoint", where).Str("service", c.Service).Float64("sample", c.Sample).Msg("sending traces")
	return &Exporter{provider: sdktrace.NewTracerProvider(provider...), version: version}, nil
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
		u.log.Warn().Err(err).Msg("spans are lost (fix: see telemetry.endpoint and the collector); said once a minute")
	}
}
