"""A run in Python: its results as tables, its model for samples of one's own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mer_lightning.api.model_card import model_card
from mer_lightning.api.saved import is_saved, load_saved, save
from mer_lightning.data.corpus import card_in
from mer_lightning.data.importing.npz import corpus_in_memory
from mer_lightning.errors import Refusal
from mer_lightning.evaluation.predictions import Predictions
from mer_lightning.evaluation.results import table, title_of
from mer_lightning.methods.base import MERMethod
from mer_lightning.methods.loading import load_method
from mer_lightning.modalities import MODALITIES, complete_among
from mer_lightning.studies import finished
from mer_lightning.tasks import Task, task_from_card
from mer_lightning.training.prediction import prediction_rows
from mer_lightning.training.run_folder import BEST, CORPUS, metrics_over_time
from mer_lightning.training.starting import run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

_CLIPS = Path("clips")  # what messages call the samples of `predict`
_AT_A_TIME = 256


class Results:
    """Scores by condition and metric.

    A table when shown, a DataFrame as `.frame`, one number as `results["tav", "mae"]`.
    """

    def __init__(self, frame: pd.DataFrame, task: Task, folder: Path) -> None:
        self.frame, self.task, self.folder = frame, task, folder

    def __getitem__(self, key: tuple[str, str]) -> float:
        condition, metric = key
        found = self.frame[(self.frame["condition"] == condition) & (self.frame["metric"] == metric)]
        if not len(found):
            known = [", ".join(dict.fromkeys(self.frame[column])) for column in ("condition", "metric")]
            raise KeyError(f"no {metric} under {condition}; there are: {known[0]}; {known[1]}")
        return float(found["value"].iloc[0])

    def __repr__(self) -> str:
        from rich.console import Console

        # A notebook asks programs for colours; as text and in HTML they would be escape codes.
        console = Console(width=100, force_terminal=False, force_jupyter=False)
        with console.capture() as text:
            console.print(table(self.frame, self.task, title_of(self.frame)))
        return text.get().rstrip()

    def _repr_html_(self) -> str:
        import html

        return f'<pre style="white-space: pre; overflow-x: auto">{html.escape(repr(self))}</pre>'


class Run:
    """What `fit` has made, or `load` has found.

    Args:
        folder: of the run; docs/reference says what is in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @cached_property
    def _finished(self) -> finished.Run:
        return finished.run_in(self.folder)

    @property
    def checkpoint(self) -> Path:
        """The weights that validation has chosen."""
        return self.folder / BEST

    @property
    def config(self) -> dict[str, Any]:
        """Every option of the run."""
        return self._finished.config

    @property
    def results(self) -> Results:
        """Of the test at the end of the fit."""
        return Results(self._finished.results(), self._finished.task, self.folder)

    @property
    def predictions(self) -> pd.DataFrame:
        """Of that test: one row per sample and condition."""
        return self._finished.predictions()

    @property
    def curves(self) -> pd.DataFrame:
        """What was logged, epoch by epoch."""
        return metrics_over_time(self.folder)

    def plot(self, kind: str, condition: str | None = None) -> Figure:
        """A figure of that test: `confusion`, `calibration` or `scatter` under a condition (default: the complete
        input), or `curves` of the fit."""
        from mer_lightning.api.plots import plot, plot_curves

        if kind == "curves":
            return plot_curves(self.curves)
        rows = self.predictions
        chosen = condition or complete_among(rows["condition"]) or str(rows["condition"].iloc[0])
        return plot(kind, rows, chosen, self._finished.task)

    @cached_property
    def method(self) -> MERMethod:
        """The trained method, ready to be called."""
        return (load_saved(self.folder) if is_saved(self.folder) else load_method(self.checkpoint)).eval()

    def test(
        self, protocol: str | Sequence[str] = "combinations", mask_seed: int | None = None, **data: Any
    ) -> Results:
        """Test the checkpoint under other conditions, or on another corpus: `run.test("rate-cpm", corpus="mosei")`.

        Args:
            protocol: the conditions.
            mask_seed: another draw of the masks than the usual one.
            data: options of :func:`mer_lightning.data`.
        """
        words = ["test", "--run", str(self.folder), "--protocol", _word(protocol)]
        if mask_seed is not None:
            words += ["--mask_seed", str(mask_seed)]
        for option, value in data.items():
            words += [f"--data.{option}", _word(value)]
        folder = run_quietly(words)
        frame = finished.read_results(folder).to_pandas()
        return Results(frame, task_from_card(card_in(folder / CORPUS).task), folder)

    def predict(
        self,
        text: ArrayLike | Sequence[ArrayLike] | None = None,
        audio: ArrayLike | Sequence[ArrayLike] | None = None,
        vision: ArrayLike | Sequence[ArrayLike] | None = None,
        ids: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """What the model says of clips: one row each, with the modalities that it rests on, and probabilities.

        Args:
            text, audio, vision: features as those of training: (T, D) of one clip with T steps, (N, T, D) of several,
                or a list with one (T, D) for each; without steps, (D,) or (N, D). None: the clips lack it.
            ids: what the rows are called; default: 0, 1, ...
        """
        arrays: dict[str, Any] = {}
        steps = card_in(self.folder / CORPUS).alignment != "utterance"
        for modality, values in zip(MODALITIES, (text, audio, vision), strict=True):
            if values is not None:
                arrays |= _clips(modality, values, steps)
        if not arrays:
            raise Refusal("predict", f"features of {' or '.join(self.method.dims)}", "none", "give one at least")
        if ids is not None:
            arrays["ids"] = np.array([str(each) for each in ids])
        corpus = corpus_in_memory(_CLIPS, arrays, [])
        method = self.method
        method.modalities_among(corpus.dims)
        method.refuse_what_does_not_fit(SimpleNamespace(corpus=corpus, dims=corpus.dims), "predict")
        split = corpus.everything()
        rows = torch.arange(len(split)).split(_AT_A_TIME)
        with torch.inference_mode():
            outputs = torch.cat([method(split.batch(each, split.present[each])) for each in rows])
        predictions = Predictions(outputs[:, None], None, torch.arange(len(split)))
        return prediction_rows(method, predictions, task_from_card(method.task.card()), split)

    def export(self, path: str | Path, steps: int | None = None) -> Path:
        """Write the model for other programs: `model.onnx`, or `model.pt2` of torch.export. The module
        :mod:`mer_lightning.api.export` says what goes in and comes out.

        Args:
            path: of the file.
            steps: the number of steps that every sequence is padded to; by default any number, which backbones with
                recurrences cannot have.
        """
        from mer_lightning.api.export import export

        return export(self.method, Path(path), steps)

    @property
    def card(self) -> str:
        """The model card, in Markdown."""
        return model_card(self.results.frame, self._finished.task, card_in(self.folder / CORPUS))

    def save(self, folder: str | Path) -> Path:
        """Write the model with its card into a new folder that can be given to others: :func:`mer_lightning.load`
        reads it, and so do people who know huggingface_hub."""
        return save(self.folder, Path(folder), self.card)

    def push(self, repository: str, private: bool = True) -> str:
        """Save the model and upload it as `user/name`; its address. Needs huggingface_hub, and a login there."""
        try:
            from huggingface_hub import HfApi
        except ImportError as error:
            raise Refusal("push", "the package huggingface_hub", "none", "pip install huggingface_hub") from error
        api = HfApi()
        with tempfile.TemporaryDirectory() as folder:
            self.save(Path(folder) / "model")
            address = api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(repo_id=repository, folder_path=Path(folder) / "model")
        return str(address)


def run_quietly(words: list[str]) -> Path:
    """Run a command as the command line does, without its last table; the run's folder."""
    cli = run(words, show=False)
    assert cli is not None
    return cli.folder


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _clips(modality: str, values: Any, steps: bool) -> dict[str, Any]:
    """Arrays as in an .npz file of one's own."""
    if isinstance(values, list | tuple) and values and np.ndim(values[0]) == 2:
        each = [np.asarray(value) for value in values]
        return {modality: np.concatenate(each), f"{modality}_lengths": np.array([len(value) for value in each])}
    array = np.asarray(values)
    single = array.ndim == (2 if steps else 1)
    return {modality: array[None] if single else array}
