# `make demo` shows the main job; `make test` runs all tests; `make lint` runs the linters; `make help` lists the rest.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
WITH_VENV := PATH="$(BIN):$$PATH"

.DEFAULT_GOAL := help
.PHONY: help demo test unit lab lab-shell lint scan audit format golden upgrade-fixture torture bench bench-up clean system-packages lab-packages

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Make a Ray cluster on this machine, run a Daft query on it, and remove it.
	@$(WITH_VENV) examples/demo/run

test: $(VENV)/.dev system-packages ## Run all tests but the lab's.
	$(WITH_VENV) pytest -n 3 --dist loadfile --ignore tests/lab --ignore tests/local
	$(WITH_VENV) pytest tests/local

unit: $(VENV)/.dev ## Run the tests that touch nothing.
	$(WITH_VENV) pytest tests/unit

lab: $(VENV)/.dev lab-packages ## Run the lab's tests: AWS and its machines in namespaces of this one; needs root.
	$(WITH_VENV) python -m tests.lab.enter pytest tests/lab

lab-shell: $(VENV)/.dev lab-packages ## Open a shell in the lab, to type `daft up` in.
	$(WITH_VENV) python -m tests.lab.enter python -m tests.lab.shell

torture: $(VENV)/.dev ## Fail each call to AWS, kill each process and fill the disk, and see that nothing is lost; TORTURE=--help for parts.
	$(WITH_VENV) python -m tests.torture $(TORTURE)

lint: $(VENV)/.dev ## Run the linters and the type checker.
	$(WITH_VENV) pre-commit run --all-files

# Each in an environment of its own, with its version in the name: they are at odds with ours over what they need.
CHECKOV := 3.3.30
PIP_AUDIT := 2.10.1

$(VENV)/checkov-$(CHECKOV)/bin/checkov: $(VENV)/bin/uv
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)/checkov-$(CHECKOV)
	@$(BIN)/uv pip install --quiet --python $(VENV)/checkov-$(CHECKOV)/bin/python checkov==$(CHECKOV)

$(VENV)/pip-audit-$(PIP_AUDIT)/bin/pip-audit: $(VENV)/bin/uv
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)/pip-audit-$(PIP_AUDIT)
	@$(BIN)/uv pip install --quiet --python $(VENV)/pip-audit-$(PIP_AUDIT)/bin/python pip-audit==$(PIP_AUDIT)

scan: $(VENV)/.dev $(VENV)/checkov-$(CHECKOV)/bin/checkov ## Scan the Terraform roots that are rendered, offline.
	$(WITH_VENV) python -m tests.terraform.policy_scan $(VENV)/checkov-$(CHECKOV)/bin/python

audit: $(VENV)/.dev $(VENV)/pip-audit-$(PIP_AUDIT)/bin/pip-audit ## Ask pypi.org for known vulnerabilities of what users install.
	@$(BIN)/uv pip compile --quiet --python $(BIN)/python pyproject.toml --output-file $(VENV)/audited.txt
	$(VENV)/pip-audit-$(PIP_AUDIT)/bin/pip-audit --strict --disable-pip --no-deps --progress-spinner off -r $(VENV)/audited.txt

format: $(VENV)/.dev ## Put the sources in their one form.
	$(WITH_VENV) ruff check --fix
	$(WITH_VENV) ruff format
	terraform fmt -recursive terraform

golden: $(VENV)/.dev ## Rewrite the expected renderings; look at the diff before you commit it.
	-DAFT_UPDATE_GOLDEN=1 $(WITH_VENV) pytest tests/golden

upgrade-fixture: $(VENV)/.dev ## Keep what this version makes of a cluster, for later versions to be tested on.
	$(WITH_VENV) python -m tests.upgrade.record

bench: $(VENV)/.dev ## Time the commands beside their yardsticks.
	$(WITH_VENV) python benchmarks/rendering.py
	$(WITH_VENV) python benchmarks/commands.py

system-packages:
	@.ci/system-packages sshd:openssh-server ssh-agent:openssh-client

# What `ray up` runs on a laptop.
$(VENV)/ray/bin/ray: $(VENV)/bin/uv
	@$(BIN)/uv venv --quiet --python $(BIN)/python $(VENV)/ray
	@$(BIN)/uv pip install --quiet --python $(VENV)/ray/bin/python 'daft[ray]>=0.7' 'ray[default]>=2.54' boto3

lab-packages:
	@.ci/system-packages sshd:openssh-server ssh-keygen:openssh-client ip:iproute2 nft:nftables sudo:sudo /lib/systemd/systemd:systemd \
		chromium:chromium chromedriver:chromium-driver curl:curl

bench-up: $(VENV)/.dev $(VENV)/ray/bin/ray lab-packages ## Bring a cluster up beside `ray up`, on the lab's machines; needs root.
	@.ci/system-packages rsync:rsync curl:curl
	$(WITH_VENV) python -m tests.lab.enter python benchmarks/up.py --ray $(CURDIR)/$(VENV)/ray/bin/ray $(BENCH)

clean: ## Remove the virtual environment and what tools left behind.
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# uv makes the environments, this one and the clusters': a tenth of pip's time.
$(VENV)/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "daft-launcher needs Python 3.10 or newer: make PYTHON=python3.12 …")'
	@$(PYTHON) -m venv $(VENV) || { echo 'no virtual environment: on Debian and Ubuntu, apt-get install python3-venv' >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.demo: $(VENV)/bin/uv pyproject.toml
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/bin/uv pyproject.toml
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --editable . --group dev
	@$(WITH_VENV) $(BIN)/python .ci/link-terraform
	@touch $@ $(VENV)/.demo
