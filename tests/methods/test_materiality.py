"""How much each loss moves the encoders: shares and cosines of gradients, when they are measured, and the warning."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import nn

from mer_lightning.cli import main
from mer_lightning.methods.materiality import immaterial, pulls


def test_shares_and_cosines_by_hand() -> None:
    """Gradients on (x, y): task (2, 0), along (1, 0) by weight 3, across (0, 4), against (-2, 0)."""
    x, y = (nn.Parameter(torch.tensor(1.0)) for _ in range(2))
    found = pulls(
        {
            "task": (2 * x, 1.0),
            "along": (x, 3.0),
            "across": (4 * y, 1.0),
            "against": (-2 * x, 1.0),
            "slanted": (x + y, 1.0),
        },
        [x, y],
    )
    assert {name: float(pull.share) for name, pull in found.items()} == pytest.approx(
        {"along": 1.5, "across": 2.0, "against": 1.0, "slanted": 0.5**0.5}
    )
    assert {name: float(pull.cosine) for name, pull in found.items()} == pytest.approx(
        {"along": 1.0, "across": 0.0, "against": -1.0, "slanted": 0.5**0.5}
    )


def test_what_cannot_be_compared_is_left_out() -> None:
    x, elsewhere = (nn.Parameter(torch.tensor(1.0)) for _ in range(2))
    still = nn.Parameter(torch.tensor(1.0), requires_grad=False)
    losses = {"task": (x * 1, 1.0), "other part": (elsewhere * 1, 1.0), "constant": (torch.tensor(1.0), 1.0)}
    assert pulls(losses, [x, still]) == {}
    assert pulls({"confidence": (x * 1, 1.0)}, [x]) == {}
    assert pulls(losses, [still]) == {}


def test_the_graph_is_still_there_for_the_step() -> None:
    x = nn.Parameter(torch.tensor(3.0))
    losses = {"task": (x.square(), 1.0), "more": (x.exp().log(), 1.0)}
    pulls(losses, [x])
    sum(value for value, _ in losses.values()).backward()
    assert float(x.grad) == pytest.approx(7.0)


def test_a_line_names_the_losses_that_hardly_act() -> None:
    assert "transfer 0.7%" in immaterial({"transfer": 0.007, "contrast": 0.13})
    assert "contrast" not in immaterial({"transfer": 0.007, "contrast": 0.13})
    assert immaterial({"contrast": 0.05}) == ""


def test_a_fit_logs_shares_every_fifth_epoch_and_warns(tiny_corpus, tmp_path) -> None:
    given = ["fit", "--model", "cdat", "--model.preset", "static", "--model.weight", "0.001", "--patience", "99"]
    given += ["--model.backbone", "early", "--data.corpus", str(tiny_corpus()), "--run_dir", str(tmp_path / "run")]
    with pytest.warns(UserWarning, match=r"CDaT, phase transfer: share of the task's gradient .* transfer 0\."):
        assert main([*given, "--trainer.max_epochs", "14", "--trainer.enable_progress_bar", "false"]) == 0
    log = pd.concat(map(pd.read_csv, (tmp_path / "run" / "logs").rglob("metrics.csv")))
    measured = log.dropna(subset=["gradient_share/transfer"])
    assert measured["epoch"].tolist() == [0, 5]
    assert (measured["gradient_share/transfer"] < 0.05).all()
    assert measured["gradient_cosine/transfer"].abs().max() <= 1
