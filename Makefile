# make test     run all tests, on Debian with Go
# make build    build ./adit, a static binary
# make demo     run a tunnel on loopback, to try adit
# make install  install to $(DESTDIR)$(PREFIX), with systemd units, manual pages and completions
# make e2e      run only the end-to-end tests of the binary
# make bench    compare adit with other programs on PATH, for docs/benchmarks.md; BENCHFLAGS=-help
# make fuzz     run every fuzz target for FUZZTIME
# make lint     run make check and staticcheck (fetched as a Go module)
# make dist     build the release in $(DISTDIR): archives, .deb, .rpm, images, SBOMs, checksums
# make image    build a container image with buildah, podman or docker
# make clean    remove what these made

GO       ?= go
PREFIX   ?= /usr/local
BINDIR   ?= $(PREFIX)/bin
UNITDIR  ?= $(PREFIX)/lib/systemd/system
DATADIR  ?= $(PREFIX)/share
DESTDIR  ?=
DISTDIR  ?= dist
# Targets of make dist, as GOOS/GOARCH …; empty: all.
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

# An existing binary is installed unchanged, because root often has no Go.
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

# Install what the tests need: a C compiler for the race detector, and the programs that the
# end-to-end tests use. Where that is impossible, the tests concerned are skipped and say so.
deps:
	@if [ ! -e /etc/debian_version ]; then \
		echo "make: not Debian: tests whose programs are missing will be skipped"; \
	elif [ "$$(id -u)" = 0 ] || command -v sudo >/dev/null; then \
		sh e2e/install.sh; \
	else \
		echo "make: neither root nor sudo: tests whose programs are missing will be skipped"; \
	fi

# Formatting and vet, also for other systems, whose tests cannot run here.
check:
	@unformatted="$$(gofmt -l .)"; \
	if [ -n "$$unformatted" ]; then echo "gofmt these files:" >&2; echo "$$unformatted" >&2; exit 1; fi
	$(GO) vet ./...
	cd bench && $(GO) vet ./...
	for system in darwin windows; do GOOS=$$system CGO_ENABLED=0 $(GO) vet ./... || exit 1; done

# The end-to-end tests run last and alone: they transfer gigabytes and are sensitive to load. They
# test the binary as it is released.
test: deps check
	$(GO) test -race -timeout 10m -p 2 $$($(GO) list ./... | grep -v '/e2e$$')
	$(GO) test -race -tags plainio ./tunnel/... # without direct system calls (tunnel/rawconn_linux.go)
	cd bench && $(GO) test -race -timeout 10m ./...
	$(MAKE) e2e

e2e: deps
	$(GOBUILD) -o dist/adit ./cmd/adit
	ADIT_BIN=$(CURDIR)/dist/adit $(GO) test -race -timeout 13m ./e2e

# All benchmarks take more than an hour on an idle machine, and need root for network namespaces.
# BENCHFLAGS='-rounds 1 -only veth' runs a part of them;
# BENCHFLAGS='compare before=OLD after=./adit' compares two binaries in 5 minutes.
bench: build
	cd bench && $(GO) build -o ../dist/bench .
	dist/bench $(BENCHFLAGS)

# On a busy machine the go command sometimes reports its own time limit as a failure. That is no
# failure unless it has written a failing input.
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

# Bugs, simplifications and unused code, but not deprecations; and vet for one more system.
lint: check
	$(GO) run $(STATICCHECK) -checks 'SA*,-SA1019,S1*,U1000' ./...
	cd bench && $(GO) run $(STATICCHECK) -checks 'SA*,-SA1019,S1*,U1000' ./...
	GOOS=freebsd CGO_ENABLED=0 $(GO) vet ./cmd/...

# One archive per system and packages for Linux. The build is reproducible.
dist:
	GO='$(GO)' VERSION='$(VERSION)' sh packaging/dist.sh $(DISTDIR) $(TARGETS)

image:
	@set -- --build-arg VERSION=$(VERSION) -t $(IMAGE) .; \
	if command -v buildah >/dev/null; then buildah bud --format docker "$$@"; \
	elif command -v podman >/dev/null; then podman build --format docker "$$@"; \
	else docker build "$$@"; fi

clean:
	rm -rf adit dist
