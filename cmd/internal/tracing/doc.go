// Package tracing sends OpenTelemetry spans of the stages over OTLP/HTTP.
//
// It promises that no id of a user or an item and no title is ever in a span, that errors' texts stay out, and that a collector that is
// away costs spans and nothing else. It refuses settings of the environment that are not built in, by a usage error. It knows the root
// package and serve, and no command.
//
//	x, err := tracing.Open(ctx, version, log) // nil: traces are off
//	t := x.Tracer()
//	t.WrapPipeline(p) // after the stages are wired
//	defer x.Close()
package tracing
