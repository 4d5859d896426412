#!/bin/sh
# Install the package for development into .venv. Without a GPU, take a CPU build of torch where one is to be had.
set -eu
cd "$(dirname "$0")/.."
"${PYTHON:-python3}" -m venv .venv
pip=".venv/bin/python -m pip --disable-pip-version-check -q"

if command -v nvidia-smi >/dev/null 2>&1 || [ "$(uname)" != Linux ]; then
    $pip install -e '.[dev]'
    exit
fi
pins=constraints/cpu.txt
cpu_build() {
    # A CPU wheel that pip knows of; else uv, which knows where torch keeps its CPU builds; else whatever there is.
    $pip install 'torch==2.13.0+cpu' 2>/dev/null && return
    $pip install uv && .venv/bin/uv pip install -q --python .venv/bin/python --torch-backend=cpu -c "$pins" torch && return
    echo 'no CPU build of torch found: installing the default one, which is large' >&2
}
cpu_build
$pip install -c "$pins" -e '.[dev]'
