#!/bin/sh
# The wheel in an empty environment: a shipped experiment by its name, a project of one's own, and ten lines of Python.
# usage: tests/wheel.sh FOLDER [WHEEL]: a new folder for everything, and the wheel; by default it is built
set -eu
wheel=${2:+$(realpath "$2")}
top=$(cd "$(dirname "$0")/.." && pwd)
mkdir "$1" && cd "$1"
export XDG_CONFIG_HOME="$PWD/config" XDG_CACHE_HOME="$PWD/cache" OMP_NUM_THREADS=1
unset PYTHONPATH MER_TRUST MER_DATA || true
small="--data.synthetic true --data.samples 100 --trainer.max_epochs 3 --quiet"

"${PYTHON:-python3}" -m venv env
pip="env/bin/python -m pip --disable-pip-version-check -q"
if [ -z "$wheel" ]; then
    $pip wheel --no-deps -w wheels "$top"
    wheel=$(echo wheels/*.whl)
fi
$pip install -c "$top/constraints/cpu.txt" "$wheel" pytest
mer="$PWD/env/bin/mer-lightning"

$mer fit --config cdat_mosi $small
$mer init mystudy
(cd mystudy && $mer fit --config experiments/mymethod_mosi.yaml $small --trust mystudy && ../env/bin/python -m pytest -q)
env/bin/python - <<'PYTHON'
import mer_lightning as mer

data = mer.data("mosi", synthetic=True, samples=100)
run = mer.fit(mer.method("cdat", data, backbone="tfn"), data, max_epochs=3)
print(run.test("fixed-7"))
PYTHON
echo "the wheel is whole"
