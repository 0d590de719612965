package e2e_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/fibstack/fibstack/e2e"
)

// target is the stack that all tests of this package share.
var target *e2e.Target

func TestMain(m *testing.M) {
	os.Exit(func() int {
		url := os.Getenv("BASE_URL")
		if url == "" {
			if err := e2e.BuildStack(); err != nil {
				return failed(err)
			}
			stack, err := e2e.StartStack()
			if err != nil {
				return failed(err)
			}
			defer stack.Close()
			url = stack.URL
		}
		var err error
		if target, err = e2e.Open(context.Background(), url); err != nil {
			return failed(err)
		}
		return m.Run()
	}())
}

func failed(err error) (code int) {
	fmt.Fprintln(os.Stderr, strings.TrimSpace(err.Error()))
	return 1
}
