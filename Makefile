# Two commands matter: `make demo` shows the product at work, `make test` proves it.
# Both set up everything they need on a fresh Debian 12, as root.

SHELL    := /bin/bash
VENV     := .venv
PY       := $(VENV)/bin/python
BAYPLAN  := $(VENV)/bin/bayplan
# A plain path in the environment: nothing to resolve at each start, nothing to go stale.
PIP_FLAGS := --quiet --disable-pip-version-check --config-settings editable_mode=compat
# Debian's own Python where it is new enough: one of somebody's home is for nobody else.
PYTHON   := $(shell /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
              2>/dev/null && echo /usr/bin/python3 || echo python3)
APT_RUN  := python3 python3-venv nftables
# What an ordinary user needs, beside APT_RUN.
APT_USER := uidmap slirp4netns
APT_TEST := busybox-static mmdebstrap graphviz iproute2 skopeo docker-registry procps binutils \
            iptables golang-github-containers-common $(APT_USER)
APT_VM   := qemu-system-x86 qemu-utils mmdebstrap e2fsprogs cpio
# Engines and runtimes of others, and what their test suites want.
APT_CONFORMANCE := crun runc podman netavark aardvark-dns catatonit docker.io containerd buildah bats \
  jq gawk socat gcc libc6-dev libseccomp-dev dpkg-dev

# As many tests at a time as there are processors; more than 4 would wait for the longest file.
WORKERS  := $(shell n=$$(nproc); echo $$((n < 4 ? n : 4)))

.PHONY: demo demo-clean test test-vm test-vm-smoke check-long conformance bench setup setup-test
.PHONY: setup-vm lint clean

demo: setup
	@BAYPLAN=$(BAYPLAN) examples/quickstart/demo.sh

demo-clean: setup
	$(BAYPLAN) delete -f examples/quickstart --delete-volumes

test: setup-test
	$(PY) -m pytest -m "not long and not machine" --workers $(WORKERS) $(PYTEST_ARGS)

# In a virtual machine with pure cgroup v2 and systemd, which the first run makes.
test-vm: setup-vm
	$(PY) -m pytest tests/vm $(PYTEST_ARGS)

test-vm-smoke: setup-vm
	$(PY) -m pytest -m "machine and not long" tests/vm $(PYTEST_ARGS)

check-long: setup-vm .make/apt-conformance
	$(PY) -m pytest -m long --workers $(WORKERS) -rP $(PYTEST_ARGS)

conformance: setup-vm .make/apt-conformance
	$(PY) -m tests.conformance $(SUITES)

bench: setup-test
	$(PY) -m benchmarks $(BENCH_ARGS)

lint: setup-test
	$(PY) -m pytest tests/test_lint.py

# Compiled here, since where nobody may write bytecode each start would compile it all again.
setup: .make/apt-run $(VENV)/.installed
	@$(PY) -m compileall -q -j 0 provider runtime schemas

setup-test: setup .make/apt-test $(VENV)/.installed-dev

setup-vm: setup-test .make/apt-vm

# A stamp is made anew when its recipe changes; packages already there cost nothing. Services that
# come with them are not started, neither by init scripts nor by systemd.
.make/apt-%: Makefile
	@mkdir -p .make
	@packages="$(APT_$(shell echo $* | tr a-z A-Z))"; \
	missing=$$(dpkg-query -W -f '$${Package} $${Status}\n' $$packages 2>/dev/null \
	  | awk '/install ok installed/ {print $$1}' | sort > .make/have; \
	  printf '%s\n' $$packages | sort | comm -23 - .make/have); \
	if [ -n "$$missing" ]; then \
	  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 SYSTEMD_OFFLINE=1; \
	  apt-get update -qq && apt-get install -qq -y --no-install-recommends $$missing; \
	fi
	@touch $@

$(VENV)/bin/python: | .make/apt-run
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml runtime/cli/bayplan-oci | $(VENV)/bin/python
	$(PY) -m pip install $(PIP_FLAGS) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.installed
	$(PY) -m pip install $(PIP_FLAGS) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .make build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
