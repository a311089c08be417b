# Two commands are enough: `make demo` and `make test`. Both set up .venv from a fresh clone with only Python >= 3.11 and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
# The CPU backend compiles kernels at run time; one cache for all tests saves minutes. Trainers get their own below STOKER_HOME.
export STOKER_TEST_CACHE ?= $(CURDIR)/.cache

SHORT := not exact and not chaos and not benchmark

.PHONY: demo test test-training test-rest lint exact chaos bench setup clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh .ci/setup.sh
	@touch $@

demo: setup
	$(BIN)/stoker demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What waits for processes runs beside what trains; the trainings run one after the other, because two that compile the same
# kernel into the one cache could load each other's half-written file.
test: lint
	@$(MAKE) -j2 test-training test-rest

test-training: setup
	@$(BIN)/python -m pytest -m "training and $(SHORT)"

test-rest: setup
	@mkdir -p .cache
	@$(BIN)/python -m pytest -m "not training and $(SHORT)" > .cache/test-rest.log 2>&1; code=$$?; cat .cache/test-rest.log; exit $$code

# $STOKER_EXACT_KILLS (200) and $STOKER_EXACT_SEED choose the random part; environments with other mlx-lm are kept in .cache/envs.
exact: setup
	$(BIN)/python -m pytest -m exact -s --durations=20

chaos: setup
	$(BIN)/python -m pytest -m chaos -s

bench: setup
	$(BIN)/python -m pytest -m benchmark -s

clean:
	rm -rf $(VENV) .cache build dist *.egg-info
