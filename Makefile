# The everyday commands. Each works on a clean clone; `make` alone lists them.

PRESET ?= dev
JOBS ?= 2
SEED ?= 1
MINUTES ?= 10
PROGRAMS = leap-coordinator leap-worker leap-verifier leapctl

.DEFAULT_GOAL := help
.PHONY: help setup build test chaos evidence demo format check clean

help:            ## this list
	@awk -F '## *' '/^[a-z]+:.*##/ {split($$1, target, ":"); printf "  make %-8s %s\n", target[1], $$2}' $(MAKEFILE_LIST)
	@echo "  PRESET=$(PRESET) (see CMakePresets.json: dev release asan tsan clang no-torch cuda), JOBS=$(JOBS)"

setup:           ## install what a build needs: packages, LibTorch into .deps/ (about a minute the first time)
	@scripts/setup.sh $(if $(filter no-torch tsan,$(PRESET)),--no-torch) $(if $(filter cuda,$(PRESET)),--cuda)

build: setup     ## configure and compile into build/PRESET
	@cmake --preset $(PRESET) -Wno-dev >/dev/null
	@cmake --build build/$(PRESET) -j $(JOBS) $(if $(TARGETS),--target $(TARGETS))

test: build      ## build, then run every test
	@ctest --preset $(PRESET) -j $(JOBS)

chaos:           ## kill, stop and cut off processes at random for MINUTES=10, from SEED=1; a failure prints its replay
	@$(MAKE) --no-print-directory build TARGETS="$(PROGRAMS)"
	@LEAP_BINARY_DIR=build/$(PRESET) tests/chaos/chaos.py --seed $(SEED) --minutes $(MINUTES)

evidence:        ## what a loss costs, as a table: steps, seconds, weights, ledger; 8 workers on this machine, a few minutes
	@$(MAKE) --no-print-directory build TARGETS="$(PROGRAMS)"
	@LEAP_BINARY_DIR=build/$(PRESET) tests/chaos/evidence.py --seed $(SEED)

demo:            ## gpt2-tiny on this machine, 2 workers, 2 verifiers, with and without leaps; TEXT=folder, STEPS=600
	@$(MAKE) --no-print-directory build PRESET=release TARGETS="$(PROGRAMS)"
	@scripts/demo.sh

format:          ## format every C++ file with the pinned clang-format
	@scripts/setup.sh --no-torch >/dev/null
	@scripts/format.sh

check:           ## formatting, and the house's rules about includes and bans
	@scripts/setup.sh --no-torch >/dev/null
	@scripts/format.sh --check
	@scripts/check_house.py --self-test
	@scripts/check_house.py

clean:           ## remove build/ (fetched things stay in .deps/)
	rm -rf build
