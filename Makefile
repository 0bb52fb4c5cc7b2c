# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# `make run` builds ktally and counts system calls; `make test` runs every test.
# Both first install what the machine lacks (see dist/setup).

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo

# cargo builds libraries with make, which must not install themselves there.
unexport PREFIX DESTDIR
MAKEOVERRIDES =

# Counting needs root; building does not.
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
ifneq ($(AS_ROOT),)
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER ?= sudo -E
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER ?= sudo -E
endif

.PHONY: help setup build run test test-kernels test-deb fuzz soak lint deny format docs bench static release deb install uninstall clean

help:
	@echo "make run | test | test-kernels | fuzz | soak | deny | build | lint | format | docs | bench | static | release | deb | test-deb | install PREFIX=$(PREFIX) | uninstall | clean"

setup:
	@dist/setup

# Two builds of one commit are the same bytes, in whatever folders they are made.
SAME = --remap-path-prefix=$(CURDIR)=. --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=cargo

build: setup
	RUSTFLAGS="$(SAME) $(RUSTFLAGS)" $(CARGO) build --release

run: build
	$(AS_ROOT) target/release/ktally run syscalls --for 5s --top 10

test: setup
	@dist/setup bpftool || echo "no bpftool can be installed: the tests that compare with it are skipped" >&2
	@$(MAKE) --no-print-directory $(BROWSER) || echo "no browser can be installed: the test of the page of export is skipped" >&2
	@dist/setup prometheus || echo "no prometheus can be installed: the tests with a server are skipped" >&2
	$(CARGO) test --quiet

# A browser and its driver, for the test of the page of `ktally export`.
BROWSER = target/page/node_modules/.package-lock.json
$(BROWSER): tests/page/package.json tests/page/package-lock.json
	@dist/setup chromium node npm
	install -D -m 0644 -t target/page $^
	npm ci --silent --prefix target/page
	@touch $@

# What clang makes of the tests' C files stays, for machines without one.
RECORD = KTALLY_OBJECTS="$(CURDIR)/target/vm/objects" PATH="$(CURDIR)/tests/vm/bin:$$PATH"
RECORDED = target/vm/objects/.complete

# tests/kernel on other kernels, emulated; with all of them, what came of it is
# the table of docs/kernels.md.
KERNELS ?= 5.10 6.1 6.1-arm64 6.12 6.18 7.3
test-kernels: setup $(RECORDED)
	@dist/setup qemu-system-x86_64 busybox cpio xz mke2fs ip
ifneq ($(findstring arm64,$(KERNELS)),)
	@dist/setup qemu-system-aarch64 aarch64-linux-gnu-gcc || echo "arm64 will be skipped" >&2
endif
	@tests/vm/run $(KERNELS)
ifeq ($(origin KERNELS),file)
	@sed -i -e '/^<!-- kernels -->/,/^<!-- end -->/{//!d}' -e '/^<!-- kernels -->/r target/vm/kernels.md' docs/kernels.md
endif

$(RECORDED): tests/vm/bin/clang $(wildcard tests/common/*.rs tests/kernel/*.rs tests/kernel/*/*.rs src/bpf/*)
	$(RECORD) $(CARGO) test --quiet --test kernel
	@touch $@

# Each property of tests/properties/, all at once, for so long.
SECONDS ?= 60
fuzz: setup
	FUZZ_SECONDS=$(SECONDS) $(CARGO) test --quiet --profile fuzz --test properties -- --test-threads=64 --show-output --skip hold::

lint: setup
	@dist/setup clang-format
	$(CARGO) fmt --check
	$(CARGO) clippy --quiet --all-targets -- -D warnings
	clang-format --dry-run --Werror src/bpf/*.c src/bpf/*.h src/bpf/internal/*.c

# All tallies at once under load, while readers come and go; an exporter under scrapes.
MINUTES ?= 10
soak: setup
	MINUTES=$(MINUTES) $(CARGO) test --quiet --test kernel -- --ignored soak::

# Wants cargo-deny, which is no part of a Rust toolchain.
deny:
	$(CARGO) deny --locked check bans licenses sources
	@if $(CARGO) deny fetch db 2>/dev/null; then $(CARGO) deny --locked check advisories; \
	else echo "the database of RustSec cannot be reached: advisories were not looked at" >&2; fi

format:
	$(CARGO) fmt
	clang-format -i src/bpf/*.c src/bpf/*.h src/bpf/internal/*.c

# Writes docs/tallies.md and the dashboard from what the tallies say about themselves.
docs: setup
	KTALLY_WRITE_DOCS=1 $(CARGO) test --quiet --test cli the_dashboard
	KTALLY_WRITE_DOCS=1 $(CARGO) test --quiet --test kernel the_page_of_the_tallies

# Ratios against the peers that are installed, in one run.
bench: setup
	RUSTFLAGS="$(SAME) $(RUSTFLAGS)" $(CARGO) bench --quiet --bench peers -- $(ARGS)

# One file for any host of an architecture: libc, libelf and zlib are in it.
# `make static TARGET=aarch64-unknown-linux-gnu` is for arm64.
TARGET ?= $(shell uname -m)-unknown-linux-gnu
STATIC = target/$(TARGET)/release/ktally
CROSS = $(if $(filter aarch64-%,$(filter-out $(shell uname -m)-%,$(TARGET))),tests/vm/cross)
static: setup
	$(if $(CROSS),@dist/setup aarch64-linux-gnu-gcc)
	LIBBPF_SYS_LIBRARY_PATH=$$(dirname "$$(realpath "$$($(CC) -print-file-name=libelf.a)")") \
		RUSTFLAGS="-C target-feature=+crt-static $(SAME) $(RUSTFLAGS)" $(CROSS) $(CARGO) build --release --features static --target $(TARGET)

# An archive of the static program with pages, completions and units, and a checksum.
release: static
	dist/release $(STATIC) target/dist

# A package for Debian and Ubuntu, in target/deb/; test-deb uses it on a fresh system.
deb: build
	@dist/setup dpkg-shlibdeps
	dist/deb target/deb

test-deb: deb
	@dist/setup debootstrap lintian
	tests/deb target/deb/ktally_*.deb

UNITS = ktally-export.service ktally-export.socket ktally@.service ktally-rotate@.service ktally-rotate@.timer
SHARE = $(DESTDIR)$(PREFIX)/share
UNIT_FOLDER = $(DESTDIR)$(PREFIX)/lib/systemd/system
BASH = $(SHARE)/bash-completion/completions/ktally
ZSH = $(SHARE)/zsh/site-functions/_ktally
FISH = $(SHARE)/fish/vendor_completions.d/ktally.fish

# That of `make build`, or another.
BINARY ?= target/release/ktally

install: $(if $(filter file,$(origin BINARY)),build)
	install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/ktally
	install -d $(UNIT_FOLDER) $(SHARE)/man/man1 $(SHARE)/doc/ktally $(dir $(BASH) $(ZSH) $(FISH))
	for unit in $(UNITS); do \
		sed 's|/usr/local|$(PREFIX)|' dist/$$unit >$(UNIT_FOLDER)/$$unit || exit; done
	$(BINARY) man $(SHARE)/man/man1
	COMPLETE=bash $(BINARY) >$(BASH)
	COMPLETE=zsh $(BINARY) >$(ZSH)
	COMPLETE=fish $(BINARY) >$(FISH)
	cp -r README.md CHANGELOG.md docs dist/prometheus dist/grafana LICENSE-* $(SHARE)/doc/ktally

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/ktally $(addprefix $(UNIT_FOLDER)/,$(UNITS))
	rm -f $(SHARE)/man/man1/ktally.1 $(SHARE)/man/man1/ktally-*.1 $(BASH) $(ZSH) $(FISH)
	rm -rf $(SHARE)/doc/ktally

clean:
	$(CARGO) clean
