// Package charts pins the tools of the Helm chart, and tests what it renders.
package charts
