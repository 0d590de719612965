package service

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/go-playground/validator/v10"
)

// ErrUsage is an error that the person who starts the process can mend: arguments or environment.
var ErrUsage = errors.New("usage")

// usageError shows its text alone.
type usageError string

func (e usageError) Error() string        { return string(e) }
func (e usageError) Is(target error) bool { return target == ErrUsage }

// Usagef returns an ErrUsage with a text for people.
func Usagef(format string, args ...any) error { return usageError(fmt.Sprintf(format, args...)) }

// Load reads the environment into flat structs with the tags env, envDefault and validate. The error is an ErrUsage
// that names all wrong variables at once. A variable that is set but empty counts as not set.
func Load(parts ...any) error {
	environment := env.ToMap(os.Environ())
	maps.DeleteFunc(environment, func(_, value string) bool { return value == "" })
	validate := validator.New()
	validate.RegisterTagNameFunc(func(f reflect.StructField) string { return f.Tag.Get("env") })

	wrong := map[string]string{}
	for _, part := range parts {
		var unparsed env.AggregateError
		if err := env.ParseWithOptions(part, env.Options{Environment: environment}); errors.As(err, &unparsed) {
			for _, err := range unparsed.Errors {
				var parse env.ParseError
				if !errors.As(err, &parse) {
					return err
				}
				field, _ := reflect.TypeOf(part).Elem().FieldByName(parse.Name)
				name := field.Tag.Get("env")
				wrong[name] = fmt.Sprintf("%s=%q must be %s", name, environment[name], form(field.Type))
			}
		} else if err != nil {
			return err
		}
		var invalid validator.ValidationErrors
		if err := validate.Struct(part); errors.As(err, &invalid) {
			for _, field := range invalid {
				// A field that could not be parsed is empty, which is not the mistake.
				if name := field.Field(); wrong[name] == "" {
					wrong[name] = fmt.Sprintf("%s=%q must be %s", name, fmt.Sprint(field.Value()), rule(field))
				}
			}
		} else if err != nil {
			return err
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	lines := slices.Sorted(maps.Values(wrong))
	return Usagef("The environment is wrong:\n  %s\nThe README lists every variable.", strings.Join(lines, "\n  "))
}

// form words what a variable of a type looks like.
func form(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "a duration such as 30s or 1m30s"
	case t == reflect.TypeFor[slog.Level]():
		return "one of debug, info, warn, error"
	case t.Kind() == reflect.Bool:
		return "true or false"
	}
	return "a whole number"
}

// rule words a failed validation.
func rule(field validator.FieldError) string {
	switch field.Tag() {
	case "min":
		return "at least " + field.Param()
	case "max":
		return "at most " + field.Param()
	case "eq":
		return field.Param() + ", which is all that is spoken here"
	case "oneof":
		return "one of " + strings.Join(strings.Fields(field.Param()), ", ")
	case "hostname_port":
		return "an address such as :9090 or 127.0.0.1:9090"
	case "ltfield":
		return "shorter than GRACE_PERIOD"
	case "file":
		return "a file that is there"
	case "required":
		return "set"
	}
	return "valid: " + field.Tag() + " " + field.Param()
}
