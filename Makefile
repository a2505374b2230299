# SPDX-License-Identifier: GPL-2.0-or-later
# make run    boot the pair and serve gdb on localhost:1234
# make test   all tests          make lint   types and style
# make test-kernels  the tests of the kernels that users have, on all that they know
# make test-clients  with debuggers of other kinds: lldb, which is large
# make soak   the tests that sample, with 2,000 stops of each kernel in each gdb
# make bench  speed beside QEMU, gdbserver and udbserver
# make fuzz   every campaign of hostile input, to its goal or SHARE=0.01 of it
# make coverage  the branches that tests without a real kernel take, and how many must be
# make unchanged  the guest patches, switched off, change no object
# Each first does what "make setup" does, which is nothing the second time.

SYSTEM_PYTHON := $(firstword $(wildcard /usr/bin/python3) python3)
VENV := .venv
BIN := $(VENV)/bin

# Debian packages: to build the extension and the guest kernel, to make symbols, to debug
PACKAGES := bc binutils bison bpftool cpio flex gcc gdb kmod libc6-dev libelf-dev \
	lz4 make patch python3-dev python3-venv xz-utils zstd
BENCH_PACKAGES := gdbserver qemu-system-x86
CLIENT_PACKAGES := lldb

SHARE := 1

.PHONY: setup packages bench-packages run test test-kernels test-clients soak fuzz \
	coverage lint bench unchanged clean

run: setup
	$(BIN)/nk run examples/two-linuxes.toml

test: setup
	$(BIN)/python -m pytest

test-kernels: setup
	NK_KERNELS="amd64 rt older" $(BIN)/python -m pytest \
		tests/boot/test_user_kernels.py tests/live/test_user_kernels.py

test-clients: setup
	@.ci/packages $(CLIENT_PACKAGES)
	$(BIN)/python -m pytest -m clients

soak: setup
	NK_STOPS=2000 $(BIN)/python -m pytest -s tests/live/test_backtraces.py

fuzz: setup
	$(BIN)/python -m tests.fuzz --share $(SHARE)

coverage: setup
	$(BIN)/pip install --quiet --editable '.[coverage]'
	$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered \
		tests/unit tests/property tests/transcript

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: setup bench-packages
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/python -m tests.bench

setup: packages $(VENV)/installed
	@$(BIN)/nk build --quiet

packages:
	@.ci/packages $(PACKAGES)

bench-packages:
	@.ci/packages $(BENCH_PACKAGES)

$(VENV)/installed: pyproject.toml bin/nk $(wildcard nanokernel_vm/cpu/*.c nanokernel_vm/cpu/native/*)
	$(SYSTEM_PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

# The guest patches with their option off change no object: some minutes
unchanged: setup
	$(BIN)/python -m tests.unchanged

clean:
	rm -rf $(VENV) build *.egg-info nanokernel_vm/cpu/*.so
