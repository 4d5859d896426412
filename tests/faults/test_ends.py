"""A small part of what `python -m tests.faults.ends` tries: see there."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.faults.ends import Bench, Tally, corpus_in, fit_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("method", ["cdat", "mcur"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_fit_that_is_ended_at_random_moments(method: str, number: signal.Signals, tmp_path: Path) -> None:
    tally = Tally("")
    with corpus_in(tmp_path) as corpus:
        Bench(tmp_path, seed=0).ended(fit_of(method, corpus), number, 3, tally)
    assert tally.tried == 3
    assert tally.failures == []


def test_a_fit_without_room_and_two_at_once(tmp_path: Path) -> None:
    tally = Tally("")
    with corpus_in(tmp_path) as corpus:
        bench = Bench(tmp_path, seed=0)
        bench.without_room(fit_of("supervised", corpus), 5, tally)
        bench.two_at_once(fit_of("supervised", corpus), 1, tally)
    assert tally.failures == []
