"""A seeded part of `make test-faults` in one process: 500 damaged and hostile files."""

from __future__ import annotations

import pytest

from tests.faults.suite import TARGETS, Bench, Target
from tests.faults.watching import watch_writes_outside

pytest.importorskip("h5py")
pytest.importorskip("optuna")

# Those that train or test take most of the time of the whole suite.
QUICK = [target for target in TARGETS if target.share > 1]
EACH = -(-500 // len(QUICK))
SEED = 18


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_DATA", "")
        patch.setenv("XDG_CACHE_HOME", "")
        yield Bench(folder, sorted({target.sample for target in QUICK}), watch_writes_outside(folder), SEED)


@pytest.mark.parametrize("target", QUICK, ids=lambda target: target.name)
def test_damaged_files_are_read_or_refused(target: Target, bench: Bench) -> None:
    whole = bench.control(target)
    assert (whole.code, whole.traceback) == (0, ""), whole
    for number in range(EACH):
        mutation, outcome = bench.result(target, number)
        assert outcome.survived, (target.name, SEED, number, mutation, outcome)
