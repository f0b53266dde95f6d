# Needs GNU make and python3 (3.10 or newer).  `make help` lists the targets.
#
#   make test PYTHON=python3.12          another interpreter, when .venv is made
#   make test TORCH="torch==2.13.0"      choose the build of torch; any words that pip understands.
#                                        Without TORCH pip takes the newest, on Linux a CUDA build
#                                        of several GB.
#   make test ARGS="-k markers -x"       words for pytest

PYTHON ?= python3
PYTHON312 ?= python3.12
VENV   ?= .venv
TORCH  ?=
ARGS   ?=

BIN   := $(VENV)/bin
# Tools are commands beside each other and no package; libraries without types are theirs to use.
LOOSELY := --explicit-package-bases --no-warn-return-any --no-warn-unused-ignores --allow-subclassing-any \
	--allow-untyped-calls --cache-dir=.mypy_cache/tools
# One thread a process: two threads on a core that is busy wait for each other.  A file's tests stay
# together, since they share what they compiled.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses=4 --dist loadfile
PIP   := $(BIN)/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs
CHOSEN_TORCH := $(VENV)/.torch

.DEFAULT_GOAL := help
.SUFFIXES:
.DELETE_ON_ERROR:
.PHONY: help venv demo docs gallery ladder test test-simgpu test-versions lint import-graph renew-texts format train-demo evaluate-demo benchmark-startup benchmark-component-pairs benchmark-base-instances benchmark-process-instances benchmark-base-session benchmark-real-clocks \
        benchmark-warm-up benchmark-wall benchmark-recipe benchmark-breaks benchmark-compile-cache benchmark-regional benchmark-simgpu benchmark-gpucost-plants benchmark-gpu-cost-depths benchmark-gpu-cost-pipelines benchmark-gpu-cost-ladders benchmark-gpu-cost-time benchmark-first-tests benchmark-first-verdict benchmark-images \
        benchmark-image-speed benchmark-history benchmark-site releases gpu-check-dry zoo hardware-docs build clean distclean FORCE

help: ## show this list
	@echo 'Targets (each makes $(VENV) first, once):'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 26
	@echo 'Variables: PYTHON=python3.12, TORCH="torch==2.13.0" (which build of torch), ARGS="-k word" (for pytest)'

venv: $(READY) ## make the virtual environment and install everything into it

# Installed again when pyproject.toml changed, or when TORCH asks for another build than is there;
# otherwise no pip is called at all.
ifneq ($(strip $(TORCH)),)
ifneq ($(strip $(TORCH)),$(strip $(shell cat $(CHOSEN_TORCH) 2>/dev/null)))
$(READY): FORCE
endif
endif

$(READY): pyproject.toml
	@command -v '$(PYTHON)' >/dev/null 2>&1 || { \
	  echo "error: '$(PYTHON)' was not found. Install Python 3.10 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "error: pytest-diffspeed needs Python 3.10 or newer, and '$(PYTHON)' is $$('$(PYTHON)' --version 2>&1)." >&2; \
	  echo "       Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: '$(PYTHON)' has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo '== setting up $(VENV) (the first time downloads torch: minutes)'
	'$(PYTHON)' -m venv $(VENV)
ifneq ($(strip $(TORCH)),)
	$(PIP) install $(foreach word,$(TORCH),'$(word)')
	@echo '$(strip $(TORCH))' > $(CHOSEN_TORCH)
endif
	$(PIP) install --editable '.[dev]'
	@touch $@

# Without pytest-benchmark, whose table would stand below ours.
demo: $(READY) ## run the example suite on the demo pipeline
	@mkdir -p build
	$(BIN)/python -m pytest --diffspeed -p no:benchmark -o faulthandler_timeout=0 examples/demo -v --diffspeed-html=build/demo.html $(ARGS)

docs: $(DOCS_READY) ## the documentation as a site, build/docs/index.html; a warning is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs -d build/doctrees . build/docs $(ARGS)
	@echo 'build/docs/index.html'

gallery: $(READY) ## write again what docs/gallery.md shows of planted mistakes (a minute)
	OMP_NUM_THREADS=1 $(BIN)/python tools/gallery.py

# What only the site needs, on first use.
$(DOCS_READY): $(READY)
	$(PIP) install --editable '.[docs]'
	@touch $@

ladder: $(READY) ## what every technique buys on the demo pipeline (about 20 minutes)
	$(BIN)/python -m pytest --diffspeed -p no:benchmark --pyargs pytest_diffspeed.ladder --diffspeed-ladder=full $(ARGS)

# Rungs that are no rows of their own: they take arguments, save memory, compile, or are known to be slow here.
RUNGS = bf16,bf16+int8_dynamic,bf16+fp8_dynamic,bf16+fp8_dynamic(granularity=row),bf16+int8_weight_only,bf16+fp8_weight_only,layerwise_casting,bf16+layerwise_casting,compile_regional,pyramid_attention(spatial_attention_block_skip_range=2),faster_cache(is_guidance_distilled=True),first_block_cache(threshold=0.1),mag_cache(threshold=0.1),taylorseer(cache_interval=2,disable_cache_before_step=1),vae_tiling(tile=48),vae_slicing,model_offload,group_offload,steps(10),scheduler(DPMSolverMultistepScheduler)+steps(10)

ladder-rungs: $(READY) ## the rungs that the ladder does not climb by itself, on the demo pipeline (about 5 minutes)
	$(BIN)/python -m pytest --diffspeed -p no:benchmark --pyargs pytest_diffspeed.ladder '--diffspeed-techniques=$(RUNGS)' $(ARGS)

test: lint ## lints, types, import direction, then the whole test suite
	@echo '== pytest'
	$(PYTEST) tests $(ARGS)

test-simgpu: $(READY) ## the simulated GPU and host syncs alone: CI runs them on a second build of torch
	$(PYTEST) tests/simgpu tests/syncs $(ARGS)

test-versions: $(READY) ## the tests, without slow ones, on the oldest and newest versions that are supported (see docs/versions.md)
	$(BIN)/python tools/versions $(ARGS)

lint: $(READY) ## ruff, mypy and import-linter
	@echo '== ruff check'
	$(BIN)/ruff check .
	@echo '== ruff format'
	$(BIN)/ruff format --check .
	@echo '== mypy'
	$(BIN)/python -m mypy
	MYPYPATH=tools/versions $(BIN)/python -m mypy $(LOOSELY) tools/versions
	MYPYPATH=tools/zoo $(BIN)/python -m mypy $(LOOSELY) tools/zoo
	MYPYPATH=tools/gpu_check/bench:tools/gpu_check $(BIN)/python -m mypy $(LOOSELY) $(wildcard tools/gpu_check/[!_]*.py tools/gpu_check/parts/[!_]*.py tools/gpu_check/bench/*.py)
	@echo '== import direction'
	$(BIN)/lint-imports --no-cache

import-graph: $(READY) ## print who imports whom: folders by level, arrows, circles
	$(BIN)/python tools/import_graph.py $(ARGS)

renew-texts: $(READY) ## write again what each report says of one session (tests/reports/whole); look at the difference
	DIFFSPEED_RENEW_TEXTS=1 $(BIN)/python -m pytest -n 0 -q tests/reports/test_whole_reports.py

format: $(READY) ## let ruff format and fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

gpu-check-dry: $(READY) ## the hardware check without hardware: its code, small, in an environment like that machine's
	PYTHON="$(PYTHON)" PYTHON312="$(PYTHON312)" tools/gpu_check/dry_run.sh $(ARGS)

zoo: $(READY) ## run techniques and gates over small pipelines of diffusers into docs/pipelines.md (hours; ARGS="--plant" plants faults; goes on where it stopped)
	OMP_NUM_THREADS=1 $(BIN)/python tools/zoo --commit-table $(ARGS)

hardware-docs: $(READY) ## write what the committed hardware runs show into docs/hardware.md and the other documents
	$(BIN)/python tools/gpu_check/document.py

train-demo: $(READY) ## train the demo pipeline again (over an hour; needs npm; goes on where it stopped)
	$(BIN)/python examples/train_demo/train.py --work build/demo $(ARGS)

evaluate-demo: $(READY) ## judge the packaged demo pipeline at full scale (needs npm)
	$(BIN)/python examples/train_demo/evaluate.py --data build/demo/data --out build/demo/evaluation $(ARGS)

benchmark-startup: $(READY) ## what the plugin costs a pytest run that does not use it
	$(BIN)/python benchmarks/startup.py $(ARGS)

benchmark-real-clocks: $(READY) ## the gate in fresh processes on the demo pipeline: false verdicts and power (40 minutes)
	$(BIN)/python benchmarks/real_clocks.py $(ARGS)

benchmark-base-instances: $(READY) ## two trees with the same code, timed as against a base: how often a verdict is wrong (an hour)
	$(BIN)/python benchmarks/base_instances.py $(ARGS)

benchmark-process-instances: $(READY) ## what differs between processes for good, and what that does to verdicts, simulated (3 minutes)
	$(BIN)/python benchmarks/process_instances.py $(ARGS)

benchmark-base-session: $(READY) ## what a session of ten tests against a base costs (minutes; --before REV: beside that commit's package)
	$(BIN)/python benchmarks/base_session.py $(ARGS)

benchmark-component-pairs: $(READY) ## component calls beside whole calls: seconds to a verdict, agreement (PARTs of 10 to 60 minutes)
	$(BIN)/python benchmarks/component_pairs.py $(ARGS)

benchmark-warm-up: $(READY) ## what slow first calls do to a verdict, on scripted clocks
	$(BIN)/python benchmarks/warm_up.py $(ARGS)

benchmark-wall: $(READY) ## where the wall time of a session goes
	$(BIN)/python benchmarks/wall_share.py $(ARGS)

benchmark-recipe: $(READY) ## our optimized_pipeline beside the recipe by hand
	$(BIN)/python benchmarks/recipe.py $(ARGS)

benchmark-compile-cache: $(READY) ## what carried compile caches save of a first call
	$(BIN)/python benchmarks/compile_cache.py

benchmark-regional: $(READY) ## cold start and speed of compile beside compile_regional (10 minutes on one core)
	$(BIN)/python benchmarks/compile_regional.py $(ARGS)

benchmark-breaks: $(READY) ## graph breaks of real models, and what looking costs
	$(BIN)/python benchmarks/graph_breaks.py $(ARGS)

benchmark-simgpu: $(READY) ## what the simulated GPU costs
	$(BIN)/python benchmarks/simgpu.py $(ARGS)

benchmark-gpucost-plants: $(READY) ## what planted changes do to GPU cost, eager and compiled (minutes; --write renews the docs)
	$(BIN)/python benchmarks/gpucost_plants.py $(ARGS)

benchmark-gpu-cost-pipelines: $(READY) ## what the small pipelines of diffusers ask of a GPU, or why not (20 minutes)
	$(BIN)/python benchmarks/gpu_cost_pipelines.py --write $(ARGS)

benchmark-first-tests: $(READY) ## what `diffspeed init` writes for ten pipelines, and what turns it red (half an hour; it goes on where it stopped)
	$(BIN)/python benchmarks/first_tests.py --write $(ARGS)

benchmark-first-verdict: $(READY) ## minutes from a wheel to a first verdict, in a new environment (minutes)
	$(BIN)/python benchmarks/first_verdict.py $(ARGS)

benchmark-gpu-cost-depths: $(READY) ## how far a GPU cost calculated from few blocks is from that of more (minutes; --compiled, --write)
	$(BIN)/python benchmarks/gpu_cost_depths.py $(ARGS)

benchmark-gpu-cost-time: $(READY) ## seconds and memory of counting a GPU cost (10 minutes; --rows, --write)
	$(BIN)/python benchmarks/gpu_cost_time.py $(ARGS)

benchmark-gpu-cost-ladders: $(READY) ## how far modelled ratios are from those of published ladders (20 minutes; --eager, --write)
	$(BIN)/python benchmarks/gpu_cost_ladders.py $(ARGS)

benchmark-report: $(READY) ## what the HTML report costs to write and to open (needs Chromium)
	$(BIN)/python benchmarks/report.py $(ARGS)

vendor: $(READY) ## fetch the chart libraries of the HTML report again and check their hashes (needs npm)
	$(BIN)/python tools/vendor.py $(ARGS)

benchmark-images: $(READY) ## what variants and broken variants of the demo pipeline score
	$(BIN)/python benchmarks/similarity_matrix.py $(ARGS)

benchmark-image-speed: $(READY) ## image metrics beside scikit-image and others: time, values, memory
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/similarity_speed.py $(ARGS)

benchmark-history: $(READY) ## the history with 100 000 records: seconds and memory of each command
	$(BIN)/python benchmarks/history.py $(ARGS)

benchmark-site: $(READY) ## the pages of a history with 100 000 records: seconds, bytes, milliseconds (needs Chromium)
	$(BIN)/python benchmarks/site.py $(ARGS)

releases: $(READY) ## count the host syncs of released diffusers into docs/releases (10 minutes; 2 GB in build/releases)
	$(BIN)/python tools/releases $(ARGS)

build: $(READY) ## sdist and wheel in dist/, checked as an index would
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

clean: ## remove caches and dist/; keeps .venv, build/ (training runs) and .diffspeed/ (your history)
	rm -rf dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find pytest_diffspeed tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## also remove .venv and build/
	rm -rf $(VENV) build
