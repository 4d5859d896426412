"""Short names; which classes may be named where is tested in test_trust.py."""

from __future__ import annotations

import pytest

from mer_lightning.methods.names import classes_first, in_arguments, in_config

SUPERVISED = "mer_lightning.methods.supervised.Supervised"
EARLY = "mer_lightning.backbones.early.Early"
HUGGING_FACE = "mer_lightning.encoders.hugging_face.HuggingFace"
DROPOUT = "mer_lightning.masks.training.ModalityDropout"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--model", "supervised"], ["--model", SUPERVISED]),
        (["--model.backbone=early"], [f"--model.backbone={EARLY}"]),
        (["--model.text_encoder", "hugging_face"], ["--model.text_encoder", HUGGING_FACE]),
        (["--model.init_args.backbone", "early"], ["--model.init_args.backbone", EARLY]),
        (["--model.backbone.class_path", "early"], ["--model.backbone.class_path", EARLY]),
        (
            ["--data.masks", "modality_dropout", "--data.masks.rate", "0.5"],
            ["--data.masks", DROPOUT, "--data.masks.rate", "0.5"],
        ),
        (["fit", "--name", "early"], ["fit", "--name", "early"]),
        (["--model.backbone", "Early"], ["--model.backbone", EARLY]),
        (["--model.help", "supervised"], ["--model.help", SUPERVISED]),
        (["--model.optimizer", "AdamW"], ["--model.optimizer", "torch.optim.AdamW"]),
        (["--trainer.callbacks+=Timer"], ["--trainer.callbacks+=lightning.pytorch.callbacks.Timer"]),
        (["--model", "{class_path: supervised}"], ["--model", f'{{"class_path": "{SUPERVISED}"}}']),
        (["--trainer.logger", "false", "--trainer.strategy", "ddp"], None),
    ],
)
def test_arguments(given: list[str], expected: list[str] | None) -> None:
    assert in_arguments(given) == (expected or given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            "fit --model.backbone.width 8 --name x --model.backbone early --model=supervised",
            "fit --model=supervised --model.backbone early --model.backbone.width 8 --name x",
        ),
        # What stands before a configuration is overridden by it, and what stands behind it overrides it.
        (
            "fit --model.weight 1 --model cdat --config f.yaml --name y --model mgr",
            "fit --model cdat --model.weight 1 --config f.yaml --model mgr --name y",
        ),
        ("fit --model.weight -1 --model cdat -c f.yaml", "fit --model cdat --model.weight -1 -c f.yaml"),
        ("fit --model.optimizer.lr 1 --model.optimizer SGD", "fit --model.optimizer SGD --model.optimizer.lr 1"),
        # Each option goes to the callback before it.
        ("fit --trainer.callbacks+=A --trainer.callbacks.n 1 --trainer.callbacks+=B", None),
    ],
)
def test_a_class_comes_before_its_options(given: str, expected: str | None) -> None:
    assert classes_first(given.split()) == (expected or given).split()


def test_configs_nested_and_flat() -> None:
    nested = {"model": {"class_path": "supervised", "init_args": {"backbone": "early"}}, "name": "early"}
    assert in_config(nested) == {"model": {"class_path": SUPERVISED, "init_args": {"backbone": EARLY}}, "name": "early"}
    assert in_config({"model.backbone": "early"}) == {"model.backbone": EARLY}
    assert in_config({"model": {"backbone": {"class_path": "early"}}}) == {"model": {"backbone": {"class_path": EARLY}}}


def test_configurations_of_older_runs_name_files_that_have_moved() -> None:
    written = {
        "data": {"masks": {"class_path": "mer_lightning.data.masks.ModalityDropout", "init_args": {"rate": 0.2}}},
        "trainer": {"callbacks": [{"class_path": "mer_lightning.training.pruning.Pruning"}]},
        "model": {"class_path": "mer_lightning.methods.cdat.CDaT"},
    }
    now = in_config(written)
    assert now["data"]["masks"]["class_path"] == "mer_lightning.masks.training.ModalityDropout"
    assert now["trainer"]["callbacks"] == [{"class_path": "mer_lightning.studies.pruning.Pruning"}]
    assert now["model"] == written["model"]
