# `make` alone lists what there is to do. Settings are variables, on the command line or in .env:
#   make up PORT=3060 MAX_INDEX=5000

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SECONDEXPANSION:
.DEFAULT_GOAL := help

VERSION := $(or $(VERSION),$(shell git describe --tags --always --dirty 2>/dev/null || echo dev))
COMMIT := $(or $(COMMIT),$(shell git rev-parse HEAD 2>/dev/null))
CREATED := $(or $(CREATED),$(shell git log -1 --format=%cI 2>/dev/null))
export VERSION COMMIT CREATED # the images' build arguments

PORT := $(or $(PORT),$(shell sed -nE "s/^PORT=[\"']?([0-9]+).*/\1/p" .env 2>/dev/null),3050)
BASE_URL ?= http://localhost:$(PORT)

compose_dev := docker compose -f docker-compose.yml -f docker-compose.dev.yml

# Both are found out only by the targets that need them.
MODE ?= $(shell (timeout 10 docker info && docker compose version) >/dev/null 2>&1 && echo docker || echo native)
RUNNING = $(if $(shell tools/native/stack status 2>/dev/null),native,$(MODE))

monitoring_profile = $(if $(filter 1,$(MONITORING)),--profile monitoring)
MONITORING := $(or $(MONITORING),$(shell sed -nE "s/^MONITORING=[\"']?([0-9]+).*/\1/p" .env 2>/dev/null))

monitoring_packages := prometheus prometheus-alertmanager prometheus-nginx-exporter prometheus-postgres-exporter prometheus-redis-exporter
run_packages := postgresql redis-server nginx gettext-base curl $(if $(filter 1,$(MONITORING)),$(monitoring_packages))
test_packages := $(run_packages) $(monitoring_packages) chromium gcc libc6-dev # for the race detector
page_tests := e2e/page/node_modules/.package-lock.json
dashboards := tools/dashboards/node_modules/.package-lock.json

.PHONY: help up up-docker up-grafana up-native run-packages dev logs status down clean build bin/api bin/worker images \
	test test-go test-client test-rules test-e2e charts test-charts kind-up kind-down k8s-dev e2e-kind e2e-eb test-packages e2e e2e-monitoring lint lint-go lint-npm lint-shell lint-docker lint-aws

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: up-$$(MODE) ## Start the stack, or rebuild and restart it; MODE=docker or native, default: docker if an engine answers
up-docker up-native dev: export PORT := $(PORT)

up-docker:
	docker compose $(monitoring_profile) up --build --detach --wait --remove-orphans || { docker compose $(monitoring_profile) logs --tail 40; exit 1; }
	@echo "The stack answers at http://localhost:$(PORT)"
	$(if $(monitoring_profile),@$(MAKE) --no-print-directory up-grafana)

# Last, for its image is the one that may not be had.
up-grafana:
	@if docker compose --profile monitoring --profile grafana up --detach --no-recreate grafana; then \
		docker compose --profile grafana port grafana 3000 | sed 's|^|Grafana: http://|'; \
	else \
		echo "Grafana does not run; all the rest does. With a way to its registry: docker compose pull grafana, then this again." >&2; \
	fi

up-native: run-packages build bin/goreman
	@MONITORING=$(MONITORING) tools/native/stack up

run-packages:
	@tools/native/install $(run_packages)

dev: ## Start the stack in Docker with hot reload of the Go code and the page, and follow it
	$(compose_dev) up --build

logs: ## Follow the logs
	@$(if $(filter native,$(RUNNING)),tools/native/stack logs,docker compose --profile '*' logs --follow)

status: ## Show what runs
	@$(if $(filter native,$(RUNNING)),tools/native/stack status,docker compose --profile '*' ps)

down: ## Stop the stack and keep its data
	@tools/native/stack down
	@$(if $(filter docker,$(MODE)),docker compose --profile '*' down)

clean: ## Stop the stack and remove its data
	@tools/native/stack clean
	@$(if $(filter docker,$(MODE)),$(compose_dev) --profile '*' down --volumes)

build: bin/api bin/worker client/dist/index.html ## Build the programs and the page

# Go knows itself what has changed.
service := github.com/fibstack/fibstack/internal/service
bin/api bin/worker:
	CGO_ENABLED=0 go build -trimpath -ldflags '-X $(service).version=$(VERSION) -X $(service).commit=$(COMMIT)' -o $@ ./$(@F)

bin/goreman: tools/go.mod
	go build -modfile=tools/go.mod -o $@ github.com/mattn/goreman

client/dist/index.html: $(shell find client -name node_modules -prune -o -name dist -prune -o -type f -print)
client/dist/index.html: client/node_modules/.package-lock.json
	cd client && npm run build

# npm writes this file last.
%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci --no-audit --no-fund

images: ## Build the images
	docker compose build

test: test-go test-client test-rules test-e2e ## Run all tests: Go with the race detector, the page's, and those of the whole stack

test-go: test-packages
	go test -race $$(go list ./... | grep -v /e2e)

test-client: client/node_modules/.package-lock.json
	cd client && npm run typecheck && npm run lint && npm test

test-rules: ## Test the alerts and the rules that they stand on
	command -v promtool >/dev/null || tools/native/install prometheus
	promtool check rules charts/fibstack/rules/*.yaml
	promtool test rules charts/fibstack/tests/rules/*.yaml

# Without a BASE_URL they start stacks of their own.
test-e2e: test-packages build bin/goreman $(page_tests)
	BASE_URL= PROMETHEUS_URL= go test -count=1 -timeout 30m ./e2e/...

charts: $(dashboards) ## Make the Helm chart's README, schema and dashboards, and the manifests without Helm
	cd tools/dashboards && npm run --silent build
	go -C tools/charts test -count=1 -run TestGeneratedFilesAreCurrent -update .

test-charts: $(dashboards) ## Test the Helm chart
	go tool -modfile=tools/charts/go.mod helm-unittest charts/fibstack
	go -C tools/charts test -count=1 .

kind-up: ## Make a local Kubernetes cluster with an ingress controller and the images
	k8s/kind up

kind-down: ## Remove it
	k8s/kind down

k8s-dev: ## Develop on that cluster with Skaffold: what is changed is rebuilt and deployed, the page shows at once
	k8s/kind needs helm skaffold
	KIND_CLUSTER=fibstack k8s/kind up
	skaffold dev

e2e-kind: ## Run the acceptance tests and disturbances on a kind cluster of their own
	k8s/e2e

e2e-eb: images ## Run the acceptance tests and disturbances on containers as Elastic Beanstalk runs them
	aws/e2e

test-packages:
	@tools/native/install $(test_packages)

e2e: test-packages $(page_tests) ## Run the acceptance tests against BASE_URL, default: http://localhost:3050
	BASE_URL=$(BASE_URL) go test -count=1 ./e2e

e2e-monitoring: ## Hold what Prometheus shows of the stack at BASE_URL against a load; PROMETHEUS_URL, default: http://localhost:9091
	BASE_URL=$(BASE_URL) PROMETHEUS_URL=$(or $(PROMETHEUS_URL),http://localhost:9091) go test -count=1 -v ./e2e/monitoring

lint: lint-go lint-npm lint-shell lint-docker lint-aws ## Check formatting and style of everything

lint-go:
	go tool -modfile=tools/go.mod golangci-lint fmt --diff
	go tool -modfile=tools/go.mod golangci-lint run
	cd tools/charts && go tool -modfile=../go.mod golangci-lint run
	git ls-files '*go.mod' | xargs dirname | xargs -I {} go -C {} mod tidy -diff

lint-npm: client/node_modules/.package-lock.json $(page_tests) $(dashboards)
	cd client && npm run lint && npm run format:check
	cd e2e/page && npm run typecheck && npm run lint && npm run format:check
	cd tools/dashboards && npm run typecheck && npm run lint && npm run format:check

lint-shell:
	tools/native/install shellcheck
	git grep --untracked -lE '^#! ?/(usr/)?bin/(env )?(ba)?sh' | xargs shellcheck -x

lint-docker:
	$(if $(filter docker,$(MODE)),docker compose build --check,@echo "The Dockerfiles are checked where a Docker engine answers.")
	$(if $(filter docker,$(MODE)),$(compose_dev) build --check)

lint-aws:
	@if command -v cfn-lint >/dev/null; then cfn-lint aws/cloudformation.yaml; else echo "aws/cloudformation.yaml is checked where cfn-lint is installed."; fi
