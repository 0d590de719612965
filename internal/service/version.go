package service

import (
	"runtime"
	"runtime/debug"
)

// Set by -ldflags "-X github.com/fibstack/fibstack/internal/service.version=… -X ….commit=…".
var (
	version = "dev"
	commit  = ""
)

// Build says what was built, from which commit, by which Go.
type Build struct {
	Version   string
	Commit    string
	GoVersion string
}

// Version returns the build of this program.
func Version() Build {
	build := Build{Version: version, Commit: commit, GoVersion: runtime.Version()}
	if build.Commit == "" {
		build.Commit = "unknown"
		if info, ok := debug.ReadBuildInfo(); ok {
			for _, setting := range info.Settings {
				if setting.Key == "vcs.revision" {
					build.Commit = setting.Value
				}
			}
		}
	}
	return build
}
