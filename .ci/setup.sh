#!/bin/sh
# Makes .venv and installs Stoker into it, saying clearly what is missing on this machine.
set -eu
say() { printf 'stoker setup: %s\n' "$1" >&2; }
command -v "$PYTHON" >/dev/null 2>&1 || { say "no '$PYTHON' on PATH. Install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3"; exit 1; }
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  say "$("$PYTHON" --version 2>&1) is too old; Stoker needs Python 3.11 or newer. Name another: make PYTHON=/path/to/python3.12"; exit 1; }
if [ "$(uname -s)" = Linux ]; then
  # mlx's CPU backend compiles kernels with the machine's C++ compiler while it trains.
  command -v g++ >/dev/null 2>&1 || command -v clang++ >/dev/null 2>&1 || {
    say "no C++ compiler (g++). mlx's CPU backend needs one at run time: apt-get install g++ (Debian, Ubuntu) or dnf install gcc-c++ (Fedora)"; exit 1; }
fi
"$PYTHON" -m venv "$VENV" || { say "cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade pip
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
say "ready: $VENV/bin/stoker"
