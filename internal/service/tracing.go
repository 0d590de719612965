package service

import (
	"context"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// newTracing makes what exports spans by OTLP over HTTP, or nil unless the environment names a collector. The SDK reads
// the other variables of OpenTelemetry itself. It does not connect: what a collector that is away misses is lost.
func newTracing(name string, log *slog.Logger) *sdktrace.TracerProvider {
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
		return nil
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("tracing", "error", err) }))
	ctx := context.Background()
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		log.Warn("tracing is off", "error", err)
		return nil
	}
	// The environment comes last, so that OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(), resource.WithAttributes(
		attribute.String("service.name", name), attribute.String("service.version", Version().Version),
	), resource.WithFromEnv())
	if err != nil {
		log.Warn("tracing: not all is known of this process", "error", err)
	}
	return sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
}

// Tracer returns what makes the process's own spans; without a provider those cost nothing.
func Tracer(provider trace.TracerProvider) trace.Tracer {
	if provider == nil {
		provider = noop.NewTracerProvider()
	}
	return provider.Tracer("github.com/fibstack/fibstack")
}

// StoreTracing is the provider for the instrumentation of stores, nil while tracing is off. It makes spans only within
// others, so that health checks, sweeps and the wait for jobs make no traces.
func (s *Service) StoreTracing() trace.TracerProvider {
	if s.Tracing == nil {
		return nil
	}
	return withinSpans{s.Tracing}
}

type withinSpans struct{ trace.TracerProvider }

func (w withinSpans) Tracer(name string, options ...trace.TracerOption) trace.Tracer {
	return tracerWithinSpans{w.TracerProvider.Tracer(name, options...)}
}

type tracerWithinSpans struct{ trace.Tracer }

func (t tracerWithinSpans) Start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, noop.Span{}
	}
	return t.Tracer.Start(ctx, name, options...)
}

// Close sends the spans that were not sent yet. It is the last step of a stop, and takes no longer than GRACE_PERIOD
// leaves.
func (s *Service) Close() {
	if s.flush == nil {
		return
	}
	ctx, cancel := context.WithDeadline(context.Background(), s.stopBy)
	defer cancel()
	if err := s.flush(ctx); err != nil {
		s.Log.Warn("the last spans are lost", "error", err)
	}
}

// Observe measures seconds, and names the trace that ctx belongs to as an example if it is sampled.
func Observe(ctx context.Context, observer prometheus.Observer, seconds float64) {
	if span := trace.SpanContextFromContext(ctx); span.IsSampled() {
		observer.(prometheus.ExemplarObserver).ObserveWithExemplar(seconds,
			prometheus.Labels{"trace_id": span.TraceID().String()})
		return
	}
	observer.Observe(seconds)
}
