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
	os.Exit(func() (code int) {
		url := os.Getenv("BASE_URL")
		if url == "" {
			if err := e2e.BuildStack(); err != nil {
				return failed(err)
			}
			stack, err := e2e.StartStack()
			if err != nil {
				return failed(err)
			}
			defer func() {
				if code != 0 {
					fmt.Fprintln(os.Stderr, stack.Log())
				}
				_ = stack.Close()
			}()
			url = stack.URL
		}
		var err error
		if target, err = e2e.Open(context.Background(), url); err != nil {
			return failed(err)
		}
		return m.Run()
	}())
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, strings.TrimSpace(err.Error()))
	return 1
}
