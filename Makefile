# make test    everything, on a Debian machine with Go: the one command
# make build   ./adit, a static binary
# make demo    a tunnel on loopback, to try
# make install to $(DESTDIR)$(PREFIX), with the systemd units, manual pages and completions
# make e2e     only the tests of the real binary with real programs
# make bench   adit beside other programs on PATH, into docs/benchmarks.md; BENCHFLAGS=-help
# make fuzz    every fuzz target for FUZZTIME
# make lint    staticcheck (fetched as a Go module)
# make dist    what is released, in $(DISTDIR): archives, .deb, .rpm, bills of materials, checksums
# make image   a container image, by buildah, podman or docker
# make clean

GO       ?= go
PREFIX   ?= /usr/local
BINDIR   ?= $(PREFIX)/bin
UNITDIR  ?= $(PREFIX)/lib/systemd/system
DATADIR  ?= $(PREFIX)/share
DESTDIR  ?=
DISTDIR  ?= dist
# Of make dist: GOOS/GOARCH …; none means all.
TARGETS  ?=
BINARY   ?= adit
IMAGE    ?= adit
FUZZTIME ?= 10s

VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null)
GOBUILD     = CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

.DEFAULT_GOAL := build
.PHONY: build install demo deps check test e2e bench fuzz lint dist image clean

build:
	$(GOBUILD) -o adit ./cmd/adit

# What `make build` made before is installed as it is: root often has no Go.
install:
	[ -e $(BINARY) ] || $(MAKE) build
	install -D -m 755 $(BINARY) $(DESTDIR)$(BINDIR)/adit
	install -d $(DESTDIR)$(UNITDIR)
	for unit in adit-server.service adit-server-standby.service adit-server.socket adit-client@.service; do \
		sed 's,/usr/local/bin/,$(BINDIR)/,' "systemd/$$unit" >"$(DESTDIR)$(UNITDIR)/$$unit" && \
		chmod 644 "$(DESTDIR)$(UNITDIR)/$$unit" || exit 1; \
	done
	sh packaging/pages.sh $(abspath $(BINARY)) $(DESTDIR)$(DATADIR)/man
	install -d $(DESTDIR)$(DATADIR)/bash-completion/completions $(DESTDIR)$(DATADIR)/zsh/site-functions \
		$(DESTDIR)$(DATADIR)/fish/vendor_completions.d
	$(abspath $(BINARY)) completion bash >$(DESTDIR)$(DATADIR)/bash-completion/completions/adit
	$(abspath $(BINARY)) completion zsh >$(DESTDIR)$(DATADIR)/zsh/site-functions/_adit
	$(abspath $(BINARY)) completion fish >$(DESTDIR)$(DATADIR)/fish/vendor_completions.d/adit.fish

demo: build
	./adit demo

# What the tests need: a C compiler for the race detector, and the programs of the end-to-end
# tests. Elsewhere than on Debian, and without rights, the tests that lack something say so.
deps:
	@if [ ! -e /etc/debian_version ]; then \
		echo "make: not Debian: tests whose programs are missing will be skipped"; \
	elif [ "$$(id -u)" = 0 ] || command -v sudo >/dev/null; then \
		sh e2e/install.sh; \
	else \
		echo "make: neither root nor sudo: tests whose programs are missing will be skipped"; \
	fi

# Also what only other systems compile: their tests cannot run here.
check:
	@unformatted="$$(gofmt -l .)"; \
	if [ -n "$$unformatted" ]; then echo "gofmt these files:" >&2; echo "$$unformatted" >&2; exit 1; fi
	$(GO) vet ./...
	cd bench && $(GO) vet ./...
	for system in darwin windows; do GOOS=$$system CGO_ENABLED=0 $(GO) vet ./... || exit 1; done

# The end-to-end tests come last and alone: they push gigabytes and need the machine for themselves.
# They test the binary as it is shipped.
test: deps check
	$(GO) test -race -timeout 10m -p 2 $$($(GO) list ./... | grep -v '/e2e$$')
	cd bench && $(GO) test -race -timeout 10m ./...
	$(MAKE) e2e

e2e: deps
	$(GOBUILD) -o dist/adit ./cmd/adit
	ADIT_BIN=$(CURDIR)/dist/adit $(GO) test -race -timeout 13m ./e2e

# It takes more than an hour with everything, and wants the machine for itself, and root for the
# paths between network namespaces: BENCHFLAGS='-rounds 1 -only throughput' is a beginning.
# BENCHFLAGS='compare before=OLD after=./adit' measures two binaries beside each other in 5 minutes.
bench: build
	cd bench && $(GO) build -o ../dist/bench .
	dist/bench $(BENCHFLAGS)

# On a busy machine the go command sometimes calls its own time limit a failure; that is none as
# long as it wrote no failing input.
fuzz:
	@mkdir -p dist; \
	packages=$$($(GO) list ./...) || exit 1; \
	for package in $$packages; do \
		targets=$$($(GO) test -list '^Fuzz' "$$package") || { echo "$$targets" >&2; exit 1; }; \
		for target in $$(echo "$$targets" | grep '^Fuzz'); do \
			echo "== $$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$package" >dist/fuzz.log 2>&1 || \
			{ grep -q '^ *context deadline exceeded$$' dist/fuzz.log && ! grep -q 'Failing input' dist/fuzz.log; } || \
			{ cat dist/fuzz.log; exit 1; }; \
			grep '^fuzz: elapsed' dist/fuzz.log | tail -n 1; \
		done || exit 1; \
	done

# Mistakes, needless code and unused code (what is deprecated is none yet); and that the command builds for one system more.
lint: check
	$(GO) run $(STATICCHECK) -checks 'SA*,-SA1019,S1*,U1000' ./...
	cd bench && $(GO) run $(STATICCHECK) -checks 'SA*,-SA1019,S1*,U1000' ./...
	GOOS=freebsd CGO_ENABLED=0 $(GO) vet ./cmd/...

# One archive for each system, packages for Linux; the same commit makes the same bytes.
dist:
	GO='$(GO)' VERSION='$(VERSION)' sh packaging/dist.sh $(DISTDIR) $(TARGETS)

image:
	@set -- --build-arg VERSION=$(VERSION) -t $(IMAGE) .; \
	if command -v buildah >/dev/null; then buildah bud --format docker "$$@"; \
	elif command -v podman >/dev/null; then podman build --format docker "$$@"; \
	else docker build "$$@"; fi

clean:
	rm -rf adit dist
