# Everything starts here; `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCK := $(if $(CUDA),requirements-cuda.lock,requirements.lock)
PEERS := .bench-peers
CONFIG := var/serving/models.config
export PYTHONDONTWRITEBYTECODE =

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): $(LOCK) setup.py
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { echo "metseg needs Python 3.11 or 3.12; name it with PYTHON=python3.11"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python has no venv module: apt-get install python3-venv"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r $(LOCK)
	@SETUPTOOLS_SCM_PRETEND_VERSION= $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

install: $(STAMP) ## Create .venv from the hash-pinned lock; CUDA=1 for NVIDIA's libraries

data: $(STAMP)
	@$(BIN)/metseg phantom data

run: $(STAMP) ## Run the pipeline on the phantom cohort, or on your data: make run DATA=FOLDER|ARCHIVE|s3://…|git+…
	@$(BIN)/metseg run $(if $(DATA),--data "$(DATA)") $(foreach p,$(PARAMS),--param $(p))

test: $(STAMP) ## Lint, types and every test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-kills: $(STAMP) ## Kill steps and reconcilers at many moments and repeat them, for minutes
	@$(BIN)/python -m pytest -m kills -n 2 --dist loadfile tests/kills tests/serving/reconciliation

# PyTorch and medicai, only for comparison. PyTorch's CPU wheels are not on PyPI: they come from the folder or page of
# PIP_FIND_LINKS, else from PyTorch's own index.
$(PEERS)/.installed: $(STAMP) benchmarks/requirements.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --target $(PEERS) --no-deps \
		$(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)",--torch-backend cpu) -r benchmarks/requirements.txt \
		&& touch $@ || echo "PyTorch and medicai could not be installed: the comparison with them is left out"

bench: $(STAMP) $(if $(ONLY),$(if $(findstring training,$(ONLY)),$(PEERS)/.installed),$(PEERS)/.installed) ## Measure the figures in the documents: make bench [ONLY='data training']
	@$(BIN)/python -m benchmarks $(ONLY)

contest: $(STAMP) ## Compare recipes on a TCGA-LGG folder for hours, in pieces: make contest DATA=FOLDER [JOBS=2]
	@test -n "$(DATA)" || { echo "make contest DATA=FOLDER: name a folder in the layout of TCGA-LGG"; exit 2; }
	@nice -n 19 $(BIN)/python -m benchmarks.contest "$(DATA)" $(if $(JOBS),--jobs $(JOBS))

images: $(STAMP) ## Build the images: make images [BASE_IMAGE=…] [CUDA=1]; docs/containers.md
	@$(BIN)/python infra/docker/build.py $(if $(BASE_IMAGE),--base-image "$(BASE_IMAGE)") $(if $(CUDA),--cuda)

test-containers: $(STAMP) ## Run the pipeline with every step in its container, by this machine's Docker
	@BASE_IMAGE="$(BASE_IMAGE)" $(BIN)/python -m pytest -m containers tests/containers

audit: $(STAMP) ## Compare the pinned packages with known advisories; list licences and release dates
	@$(BIN)/python infra/audit.py requirements*.lock infra/docker/*.lock tests/containers/*.lock

format: $(STAMP) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

serve: $(STAMP) ## Serve the published models over gRPC on port 8500
	@test -f $(CONFIG) || { echo "nothing is published yet: make run"; exit 2; }
	@$(BIN)/metseg serve --port 8500 --model_config_file $(CONFIG) --allow_version_labels_for_unavailable_models

predict: $(STAMP) ## Segment images through the server: make predict IMAGES='a.nii.gz …' OUT=predictions
	@$(BIN)/metseg predict $(IMAGES) --out $(or $(OUT),predictions) $(if $(MODEL),--model-name $(MODEL))

viewer: $(STAMP) ## View studies and masks on port 8502, next to make serve: make viewer [SAMPLES=FOLDER]
	@$(BIN)/metseg viewer $(if $(SAMPLES),--samples "$(SAMPLES)") $(if $(MODEL),--model-name $(MODEL))

ui: $(STAMP) ## Open the MLflow UI on port 5000
	@MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --backend-store-uri sqlite:///var/mlflow.db --port 5000

compile: $(STAMP) ## Compile the Kubeflow pipeline to pipelines/compiled/
	@$(BIN)/metseg compile

# Subsets of requirements.lock for the images: the extras of each, and the packages that none needs.
IMAGE_LOCK = $(BIN)/uv pip compile --constraint requirements.lock --generate-hashes --python-version 3.11 --no-header --no-annotate --quiet
EXTRAS_data := --extra imaging --extra dicom --extra data --extra tracking --extra pipeline
EXTRAS_train := --extra imaging --extra train --extra serve --extra pipeline
EXTRAS_serve := --extra imaging --extra dicom --extra serve --extra ui

lock: $(STAMP) ## Resolve requirements.lock from setup.py, and all other locks with the same versions
	$(BIN)/uv pip compile setup.py --extra all --generate-hashes --python-version 3.11 --no-header --quiet -o requirements.lock
	$(BIN)/uv pip compile setup.py --extra all --extra cuda --constraint requirements.lock --generate-hashes --python-version 3.11 --no-header --quiet -o requirements-cuda.lock
	@$(MAKE) --no-print-directory image-locks

image-locks: $(STAMP)
	$(IMAGE_LOCK) infra/docker/requirements-build.in -o infra/docker/requirements-build.lock
	$(IMAGE_LOCK) setup.py infra/docker/requirements-data.in $(EXTRAS_data) --override infra/docker/left-out.txt -o infra/docker/requirements-data.lock
	$(IMAGE_LOCK) setup.py infra/docker/requirements-train.in $(EXTRAS_train) --override infra/docker/left-out.txt -o infra/docker/requirements-train.lock
	$(IMAGE_LOCK) setup.py infra/docker/requirements-train.in $(EXTRAS_train) --extra cuda --constraint requirements-cuda.lock --override infra/docker/left-out.txt -o infra/docker/requirements-train-cuda.lock
	$(IMAGE_LOCK) setup.py infra/docker/requirements-serve.in $(EXTRAS_serve) --override infra/docker/left-out.txt --override infra/docker/left-out-serve.txt -o infra/docker/requirements-serve.lock
	$(IMAGE_LOCK) tests/containers/requirements-s3.in -o tests/containers/requirements-s3.lock

clean: ## Remove the files of runs (data, runs, var), but not the environment
	rm -rf data runs var

.PHONY: help audit install data run test test-kills images test-containers bench contest format serve predict viewer ui compile lock image-locks clean
