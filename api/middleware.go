package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strings"

	"github.com/felixge/httpsnoop"
	"github.com/gorilla/mux"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/fibstack/fibstack/internal/service"
)

// goodRequestID is what a proxy's or client's own id must look like to be taken over into logs and headers.
var goodRequestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// withRequestID takes the request's id, or makes one. The answer, its problem and the log lines carry it.
func (s *server) withRequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-Id")
		if !goodRequestID.MatchString(id) {
			id = rand.Text()
		}
		w.Header().Set("X-Request-Id", id)
		next.ServeHTTP(w, r.WithContext(service.WithRequestID(r.Context(), id)))
	})
}

// observe tells of every request by the template of its route, which the router tells when it has matched.
func observe(router *mux.Router, next http.Handler,
	tell ...func(r *http.Request, route string, got httpsnoop.Metrics),
) http.Handler {
	type routeKey struct{}
	router.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			route := routeTemplate(mux.CurrentRoute(r))
			*r.Context().Value(routeKey{}).(*string) = route
			if span := trace.SpanFromContext(r.Context()); span.IsRecording() {
				span.SetName(r.Method + " " + route)
				span.SetAttributes(attribute.String("http.route", route))
			}
			next.ServeHTTP(w, r)
		})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		route := unmatched
		r = r.WithContext(context.WithValue(r.Context(), routeKey{}, &route))
		got := httpsnoop.CaptureMetrics(next, w, r)
		for _, t := range tell {
			t(r, route, got)
		}
	})
}

func (s *server) logRequest(r *http.Request, route string, got httpsnoop.Metrics) {
	s.log.LogAttrs(r.Context(), slog.LevelInfo, "request", slog.String("method", r.Method),
		slog.String("route", route), slog.String("path", r.URL.Path), slog.Int("status", got.Code),
		slog.Int64("bytes", got.Written), slog.Float64("seconds", got.Duration.Seconds()))
}

// traced makes a span of every request, below that of the proxy in front if it passes one on. Event streams get none: a
// span that ends when a browser is closed tells nothing, and hides what does.
func traced(tracing trace.TracerProvider, next http.Handler) http.Handler {
	return otelhttp.NewHandler(next, "request", otelhttp.WithTracerProvider(tracing),
		otelhttp.WithMeterProvider(noop.NewMeterProvider()), otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method }),
		otelhttp.WithFilter(func(r *http.Request) bool { return !strings.HasSuffix(r.URL.Path, eventsRoute) }))
}

// unmatched is the route of a request that no route matches.
const unmatched = "other"

// routeTemplate is a route's path as the contract writes it, whichever prefix it is served at.
func routeTemplate(route *mux.Route) string {
	template, err := route.GetPathTemplate()
	if err != nil {
		return unmatched
	}
	if template = strings.TrimPrefix(template, "/api"); template == "" {
		return "/"
	}
	return template
}

// recoverPanics turns a handler's panic into a problem, and a log line with the stack.
func (s *server) recoverPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(cause)
			}
			s.log.ErrorContext(r.Context(), "panic", "cause", cause, "stack", string(debug.Stack()))
			s.fail(w, r, fmt.Errorf("panic: %v", cause))
		}()
		next.ServeHTTP(w, r)
	})
}
