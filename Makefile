# Everything a fresh clone can do. Needs python3 (3.11 or newer) with its venv module, and make.
#
#   demo      a server, and questions about clips: answers, truth, cost
#   test      ruff, mypy, import rules, all tests
#   help      the other targets

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

MODEL  ?= deploy/models/soundstage-small
DATA   ?= datasets/soundstage
SEED   ?= 1
PROFILE ?= smoke
# Processes that share the tests: what needs Docker mostly waits.
WORKERS ?= 4
SHARED_OUT := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Where this is set, each of the hundreds of processes of the tests would compile what it imports anew.
unexport PYTHONDONTWRITEBYTECODE
# A command after this runs beside an edge server on free ports, and finds it in its environment.
SERVED := $(BIN)/python deploy/with_server.py --model $(MODEL) --
SCRIPTS := deploy/with_server.py deploy/demo/demo.py deploy/demo/make_clips.py deploy/demo/screenshots.py \
  deploy/demo/shifted_worlds.py deploy/demo/free_questions.py deploy/demo/cameras.py \
  $(wildcard deploy/loadtest/*.py) \
  tests/closed_forms.py tests/tree.py tests/benchmarks/channel.py tests/benchmarks/device_cost.py \
  tests/benchmarks/paper_scale.py $(wildcard tests/benchmarks/forward_*.py tests/benchmarks/serving/*.py) \
  $(wildcard tests/benchmarks/cluster/*.py) \
  $(wildcard tests/benchmarks/promises/*.py tests/benchmarks/peers/*.py tests/benchmarks/peer_servers/*.py) \
  $(wildcard tests/chaos/*.py tests/chaos/rows/*.py tests/clients/*.py tests/media_matrix/*.py)
RESULTS := docs/results
QUICK := $(BIN)/edge-server study quick --runs build/results-quick/runs --data build/results-quick/data \
  --model $(MODEL) --out build/results-quick

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint loadtest locust bench promises clients peers vllm chaos chaos-quick media-matrix requirements \
  cluster-test screenshots tree docs protos dataset \
  train results results-quick clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

# A virtual environment grows in steps, each remembered by a stamp: python, torch, what the demo needs
# (server), what tests and tools need on top (dev). A second call finds the stamps and installs nothing.

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.torch: $(VENV)/.python constraints.txt
	@echo "Installing torch ..."
	@$(PIP) "$$(grep '^torch==' constraints.txt)"
	@touch $@

$(VENV)/.server: $(VENV)/.torch pyproject.toml
	@echo "Installing the edge server and the device agent ..."
	@$(PIP) --editable '.[server]'
	@touch $@

$(VENV)/.dev: $(VENV)/.server
	@echo "Installing tools for tests and training ..."
	@$(PIP) --editable '.[dev]'
	@touch $@

demo: $(VENV)/.server ## Ask about the shipped clips, at two SNRs
	@$(SERVED) $(BIN)/python deploy/demo/demo.py
	@$(BIN)/python -m deploy.demo.free_questions

test: lint ## Lint, then all tests but the slow ones
	$(BIN)/python -m tests.alone -m "not benchmark and not slow" $(SHARED_OUT)

test-slow: $(VENV)/.dev ## The slow ones: more compose files, soaks, crowds; a quarter of an hour
	$(BIN)/python -m pytest -m slow $(SHARED_OUT)

lint: $(VENV)/.dev ## ruff, mypy --strict, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy $(SCRIPTS)
	$(BIN)/lint-imports

loadtest: $(VENV)/.dev ## Many users; PROFILE=smoke, steady, overload, stampede or mixed
	@$(SERVED) $(BIN)/python -m deploy.loadtest $(PROFILE) --out build/loadtest/$(PROFILE).json \
	  --plot build/loadtest/$(PROFILE).png

locust: $(VENV)/.dev ## The same users with Locust's web page, on http://localhost:8089
	@$(SERVED) $(BIN)/python -m locust --locustfile deploy/loadtest/locustfile.py

bench: $(VENV)/.dev ## What was promised of the server under load (an hour, on an idle machine)
	$(BIN)/python -m tests.benchmarks.serving --model $(MODEL) --out $(RESULTS)/serving.json

promises: $(VENV)/.dev ## One table of what was promised, from the results; into docs/results/promises.json
	$(BIN)/python -m tests.benchmarks.promises --results $(RESULTS)

chaos: $(VENV)/.dev ## Kill, cut and crowd, as promised; JSON into docs/results (can be cut and called again)
	$(BIN)/python -m tests.chaos

chaos-quick: $(VENV)/.dev ## A small version, under 3 minutes
	$(BIN)/python -m tests.chaos --quick

cluster-test: $(VENV)/.dev ## Kills, duplicates, throughput of a cluster of processes, as promised: a quarter of an hour
	$(BIN)/python -m tests.benchmarks.cluster --out $(RESULTS)/cluster.json

media-matrix: $(VENV)/.dev ## Kinds of media files by what may be in them, on every way in, beside FFmpeg and Pillow
	$(BIN)/python -m tests.media_matrix --out $(RESULTS)/media_matrix.json

requirements: build/tools/.ready ## What the images install, with hashes, into deploy/requirements
	deploy/requirements/compile.sh build/tools/bin/uv

build/tools/.ready: deploy/requirements/tools.txt
	$(PYTHON) -m venv build/tools
	build/tools/bin/pip --disable-pip-version-check install --quiet --require-hashes -r $<
	@touch $@

screenshots: $(VENV)/.dev ## Pictures of the page, into docs/images
	@$(SERVED) $(BIN)/python deploy/demo/screenshots.py

tree: $(VENV)/.dev ## Where things are, in CONTRIBUTING.md, from docstrings and import rules
	$(BIN)/python -m tests.tree

docs: $(VENV)/.dev ## The page of settings, docs/settings.md
	$(BIN)/edge-server settings --markdown docs/settings.md

protos: $(VENV)/.dev ## Stubs from the .proto
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. --grpc_python_out=. \
	  protos/tokenlink/v1/tokenlink.proto protos/tokenlink/v1/enrolment.proto protos/tokenlink/v1/cotrain.proto \
	  protos/tokenlink/v1/cluster.proto

dataset: $(VENV)/.dev ## The benchmark, three splits
	$(BIN)/edge-server dataset soundstage --out $(DATA) --clips 20000 --seed $(SEED) --split train
	$(BIN)/edge-server dataset soundstage --out $(DATA) --clips 400 --seed $(SEED) --split val
	$(BIN)/edge-server dataset soundstage --out $(DATA) --clips 600 --seed $(SEED) --split test

train: $(VENV)/.dev ## The model, from nothing, into runs/
	$(BIN)/edge-server train soundstage-small --seed $(SEED) --data $(DATA)

clients: $(VENV)/.dev ## Clients of OpenAI's API, each in its environment, against the shipped model
	$(BIN)/python -m tests.clients --out $(RESULTS)/clients.json

peers: $(VENV)/.dev ## Environments of the servers that ours is compared with
	$(BIN)/python -m tests.benchmarks.peers.environments

vllm: $(VENV)/.server ## vLLM in an environment of its own, for edge-server serve --runner vllm
	$(BIN)/edge-server engines install vllm

results: $(VENV)/.dev ## Every result and figure of docs/results (hours; can be cut and called again)
	$(BIN)/edge-server evaluate $(MODEL) --data $(DATA) --snr-db 10 --snr-db 0 --snr-db -5 --out $(RESULTS)/accuracy.json
	$(BIN)/edge-server evaluate $(MODEL) --data $(DATA) --wordings --questions 3929 --demo deploy/demo --out $(RESULTS)/wordings.json
	$(BIN)/edge-server evaluate $(MODEL) --data $(DATA) --out-of-domain --snr-db 10 --snr-db 0 --snr-db -5 \
	  --out $(RESULTS)/out_of_domain.json
	$(BIN)/edge-server export $(MODEL) --out build/bundle --parity $(RESULTS)/parity.json
	$(BIN)/python -m tests.benchmarks.channel --out $(RESULTS)/channel.json
	$(BIN)/python -m tests.benchmarks.forward_pass --model $(MODEL) --out $(RESULTS)/forward_pass.json
	$(SERVED) $(BIN)/device-agent bench deploy/demo/clips/soundstage_test_000001.mp4 "Where is the loudest instrument?" \
	  --no-pace --out $(RESULTS)/device.json
	$(BIN)/edge-server study full --data $(DATA) --model $(MODEL) --out $(RESULTS) --part train
	$(BIN)/edge-server study full --data $(DATA) --model $(MODEL) --out $(RESULTS) --part baselines
	$(BIN)/python -m tests.benchmarks.device_cost --model $(MODEL) --data $(DATA) --out $(RESULTS)/device_cost.json
	$(BIN)/edge-server study full --data $(DATA) --model $(MODEL) --out $(RESULTS) --part figures

results-quick: $(VENV)/.dev ## A small version of each, into build/results-quick (minutes)
	$(QUICK) --part train
	$(QUICK) --part baselines
	$(BIN)/python -m tests.benchmarks.device_cost --quick --model $(MODEL) --data build/results-quick/data \
	  --out build/results-quick/device_cost.json
	$(QUICK) --part figures

clean: ## Environment and caches; data sets and runs stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
