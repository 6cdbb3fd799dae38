# A short door to Meson and Ninja. `make` compiles everything into build/bin/.
#   make            release build              make demo      see what tare is (installs what is missing)
#   make debug      ASan + UBSan build         make test      everything, on both builds
#   make lint       format, analysis, budgets  make bench     ratios against dockerd and podman
#   make fuzz       fuzz targets, FUZZ_SECONDS each         make install    PREFIX, DESTDIR
#   make test-projects   Dockerfiles of well-known projects, built from Debian's mirror and asked for an answer
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
RELEASE := build/release
DEBUG := build/debug

all: $(RELEASE)/build.ninja
	@ninja -C $(RELEASE) --quiet
	@mkdir -p build && ln -sfn release/src/bin build/bin

$(RELEASE)/build.ninja:
	@scripts/install-deps build
	@meson setup $(RELEASE) --prefix=$(PREFIX) --buildtype=release -Db_ndebug=false >/dev/null

$(DEBUG)/build.ninja:
	@scripts/install-deps build test
	@CC=gcc meson setup $(DEBUG) --buildtype=debug -Db_sanitize=address,undefined -Dtests=enabled >/dev/null

debug: $(DEBUG)/build.ninja
	@ninja -C $(DEBUG) --quiet

demo:
	@scripts/install-deps build demo
	@$(MAKE) --no-print-directory all
	@scripts/demo

test:
	@scripts/install-deps build demo test
	@$(MAKE) --no-print-directory all debug
	@scripts/run-tests

test-projects:
	@scripts/install-deps build demo test
	@$(MAKE) --no-print-directory all
	@scripts/isolated scripts/test-projects

lint:
	@scripts/install-deps build test lint
	@scripts/lint

bench: all
	@scripts/install-deps bench
	@bench/run

fuzz:
	@scripts/install-deps build test
	@scripts/run-fuzz $(FUZZ_SECONDS)

install: all
	@meson install -C $(RELEASE)

clean:
	@rm -rf build

.PHONY: all debug demo test test-projects lint bench fuzz install clean
