# `make` alone lists the targets. Everything goes into .venv/ of this checkout; only make and Python are needed before.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
EXITS := block7,block11,block13,block16,block18
POOL := $(foreach part,0 1 2,$(DATA)/pool/pool-$(part)-of-3.parquet)
TINY := $(DATA)/tiny-imagenet-200
# Builds the packages of this checkout: once for all of them, not in an environment for each (4 s).
BUILDER := setuptools>=77
INSTALL := $(PIP) install --quiet --no-compile "$(BUILDER)" && $(PIP) install --no-compile --no-build-isolation
PACKAGES := pyproject.toml client/pyproject.toml server/pyproject.toml traces/pyproject.toml examples/drone/pyproject.toml

# As many as the smallest machine has cores. Three are an eighth quicker there, and tests of processes get too little.
TOGETHER := -n 2 --dist loadfile --no-loadscope-reorder

# The files with such tests: the others need not be imported to find that they have none.
ALONE := $(shell grep -rl --include='test_*.py' 'mark\.alone' tests | sort)

# Every test starts processes: their byte code is kept. What is never imported needs none (pip would take 45 s for it).
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo webcam drone webcam-soak test test-all check lint faults soak fuzz bench bundle bundle-200 models dist version docs clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1	\2/' | expand -t 18

demo: .venv/.run ## install what it needs, then: real server, real client, a clip, answers on screen (about a minute)
	@$(BIN)/python examples/demo.py $(ARGS)

webcam: .venv/.webcam ## install what it needs, then: a page with your camera's picture, labelled: make webcam ARGS="--source demo"
	@$(BIN)/spinn webcam --open $(ARGS)

drone: .venv/.drone ## install what it needs, then: a drone flies through a forest by camera, with a real server: make drone ARGS="--seed 2"
	@$(BIN)/spinn drone $(ARGS)

webcam-soak: .venv/.setup ## ten minutes of the page with two viewers: memory of the server and of the page stays flat
	@$(BIN)/python benchmarks/webcam.py --soak

# What tests measure of this machine is measured once for both halves, by the first, beside which nothing runs.
test test-all: export SPINN_TESTS_CACHE := $(CURDIR)/.venv/tests-cache
test: .venv/.setup lint ## install everything, then check style and types and run all tests but the slowest
	@rm -rf "$$SPINN_TESTS_CACHE"
	@echo "== tests of whole systems against the clock, one after the other, some minutes in all"
	@$(BIN)/python -m pytest --durations=5 -m "alone and not slow" $(ALONE)
	@echo "== tests of parts and of commands, two at a time"
	@$(BIN)/python -m pytest $(TOGETHER) -m "not alone and not slow"

test-all: test ## these, and those that make environments or train
	@$(BIN)/python -m pytest --durations=5 -m slow

check: .venv/.setup lint ## style, types and the tests of parts, for between two changes
	@$(BIN)/python -m pytest $(TOGETHER) -q -m "not alone and not slow" \
	    tests/core/bundle tests/core/codec tests/core/plan tests/core/wire tests/client tests/server tests/test_house.py

lint: .venv/.setup ## ruff and mypy --strict
	@echo "== ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "== mypy --strict"
	@$(BIN)/mypy

setup: .venv/.setup ## install everything for development into .venv/

faults: .venv/.setup ## make every fault we can, and write benchmarks/results/faults.json and the table in docs/faults.md
	@$(BIN)/python benchmarks/faults.py

soak: .venv/.setup ## two minutes of faults at random: nothing grows, no frame is lost: make soak ARGS="--hours 8"
	@$(BIN)/python benchmarks/soak.py $(ARGS)

fuzz: .venv/.setup ## a million messages to each end's session, and 200,000 to a server's port (some minutes)
	@$(BIN)/python benchmarks/fuzz.py

bench: .venv/.setup ## measure: age of answers by split (some minutes; see benchmarks/ for the others)
	@$(BIN)/python benchmarks/latency.py

bundle: .venv/.setup ## make the default bundle again: make bundle DATA=folder (an hour; continues where it was broken off)
	$(BIN)/spinn train --backbone efficientnet-lite0 --keep-head --classes spinn_stream/bundles/everyday.json \
	    --data $(POOL) --held-out 2000 --calibrate-on $(DATA)/pool/nips17.parquet --exit-at block8,block11 \
	    --image-size 224 --views 2 --blended 0.5 --epochs 3 --batch-size 64 --lr-heads 1.5e-4 --exit-weight 1 \
	    --distillation 1 --distillation-temperature 1 --label-smoothing 0 --seed 1 --payload-images 250 \
	    --out spinn_stream/bundles/lite-1000 --work lite-1000.work
	cp lite-1000.work/training.jsonl spinn_stream/bundles/lite-1000/

bundle-200: .venv/.setup ## train the bundle of 200 classes again: make bundle-200 DATA=folder (hours; continues likewise)
	$(BIN)/spinn train --backbone efficientnet-lite2 --data $(TINY)/train-*.parquet --held-out 4000 \
	    --exit-at $(EXITS) --image-size 128 --train-sizes 96:0.6,128:1 --epochs 4.6 \
	    --out lite2-200.work/first --work lite2-200.work/1
	$(BIN)/spinn train --backbone efficientnet-lite2 --data $(TINY)/train-*.parquet --held-out 4000 \
	    --exit-at $(EXITS) --image-size 128 --epochs 0.8 --lr 2e-4 --lr-heads 1e-3 --exit-weight 2 --label-smoothing 0 \
	    --seed 2 --start lite2-200.work/1/checkpoint.pt --out lite2-200.work/second --work lite2-200.work/2
	$(BIN)/spinn train --backbone efficientnet-lite2 --data $(TINY)/train-*.parquet --held-out 4000 \
	    --exit-at $(EXITS) --image-size 128 --train-sizes 96:0.3,112:0.65,128:1 --epochs 4.5 --lr 2.5e-4 --lr-heads 1.2e-3 \
	    --exit-weight 2 --label-smoothing 0 --seed 3 --start lite2-200.work/2/checkpoint.pt \
	    --out lite2-200.work/third --work lite2-200.work/3
	$(BIN)/spinn train --backbone efficientnet-lite2 --data $(TINY)/train-*.parquet --held-out 4000 \
	    --exit-at block11,block16 --image-size 128 --freeze backbone --views 2 --epochs 15 --batch-size 128 --lr-heads 6e-3 \
	    --distillation 0.7 --exit-weight 1 --label-smoothing 0 --seed 4 --start lite2-200.work/3/checkpoint.pt \
	    --name lite2-200 --out benchmarks/bundles/lite2-200 --work lite2-200.work/4

models: .venv/.setup ## fit the models of networks again and make traces/data/: make models DATA=folder of real traces
	PATH="$(abspath $(BIN)):$$PATH" traces/make_models.sh "$(DATA)"

dist: .venv/.setup ## wheels and source archives of all four packages, in dist/
	rm -rf dist
	for package in . client server traces; do $(BIN)/python -m build --no-isolation --outdir dist $$package || exit; done

version: ## give all four packages another version: make version TO=0.2.0
	@test -n "$(TO)" || { echo "which version? make version TO=0.2.0"; exit 1; }
	sed -i -E 's/^version = ".*"/version = "$(TO)"/; s/"(spinn-(stream|client|server|traces))==[^"]*"/"\1==$(TO)"/' $(PACKAGES)

docs: .venv/.docs ## make the site of docs/ in site/; a link that leads nowhere is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "site/index.html; with its search: $(BIN)/python -m http.server --directory site"

clean: ## remove .venv/, site/ and caches
	rm -rf .venv site .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/.made:
	@echo "== making .venv/ with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "spinn-stream needs Python 3.11 or later")'
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.run: .venv/.made requirements-run.txt $(PACKAGES)
	@echo "== installing what running needs (no torch)"
	@$(INSTALL) -r requirements-run.txt
	@touch $@

.venv/.webcam: .venv/.made requirements-webcam.txt requirements-run.txt $(PACKAGES)
	@echo "== installing what running and the page need (no torch)"
	@$(INSTALL) -r requirements-webcam.txt
	@touch $@ .venv/.run

.venv/.docs: .venv/.made requirements-docs.txt
	@echo "== installing what the site needs"
	@$(PIP) install --no-compile -r requirements-docs.txt
	@touch $@

.venv/.drone: .venv/.made requirements-drone.txt requirements-run.txt $(PACKAGES)
	@echo "== installing what running and the drone need (no torch)"
	@$(INSTALL) -r requirements-drone.txt
	@touch $@ .venv/.run

.venv/.setup: .venv/.made requirements.txt requirements-docs.txt requirements-drone.txt requirements-webcam.txt requirements-run.txt $(PACKAGES)
	@echo "== installing everything for development (torch is the largest, some minutes)"
	@$(INSTALL) -r requirements.txt
	@touch $@ .venv/.run .venv/.webcam .venv/.drone .venv/.docs
