# Two commands are enough: `make demo` and `make test`. Both set up .venv from a fresh clone with only Python >= 3.11 and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
# The CPU backend compiles kernels at run time; one cache for all tests saves minutes. Trainers get their own below STOKER_HOME.
export STOKER_TEST_CACHE ?= $(CURDIR)/.cache

.PHONY: demo test lint exact chaos bench setup clean

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

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not exact and not chaos and not benchmark"

# $STOKER_EXACT_KILLS (200) and $STOKER_EXACT_SEED choose the random part; environments with other mlx-lm are kept in .cache/envs.
exact: setup
	$(BIN)/python -m pytest -m exact -s --durations=20

chaos: setup
	$(BIN)/python -m pytest -m chaos -s

bench: setup
	$(BIN)/python -m pytest -m benchmark -s

clean:
	rm -rf $(VENV) .cache build dist *.egg-info
