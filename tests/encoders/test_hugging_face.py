"""Text encoders from a folder: what they say, what stays frozen, how they learn, and the command line with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer

from mer_lightning.backbones.late_transformer import LateTransformer
from mer_lightning.cli import main
from mer_lightning.contract import DIMS
from mer_lightning.contract import example_batch as make_batch
from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.datamodule import MERData
from mer_lightning.data.store import write_corpus
from mer_lightning.encoders.hugging_face import HuggingFace
from mer_lightning.errors import Refusal
from mer_lightning.evaluation.protocols import Protocol, freeze
from mer_lightning.methods.loading import load_method
from mer_lightning.methods.supervised import Supervised
from mer_lightning.tasks import Regression
from tests.tiny_encoders import LAYERS, POSITIONS, VOCABULARY, WIDTH, tiny_encoder, tokens_for_text, with_tokens

transformers = pytest.importorskip("transformers")
FAMILIES = ("bert", "roberta", "deberta-v2")
TOKEN_DIMS = DIMS | {"text": 1}


@pytest.fixture
def corpus(tmp_path: Path, tiny_raw) -> Path:
    write_corpus(tokens_for_text(tiny_raw(alignment="aligned")), tmp_path / "corpus", "tokens")
    return tmp_path / "corpus"


def method_with(folder: Path, **options: object) -> Supervised:
    torch.manual_seed(0)
    return Supervised(
        TOKEN_DIMS,
        Regression().card(),
        lambda dims: LateTransformer(dims, width=8, depth=1),
        text_encoder=lambda: HuggingFace(str(folder), **options),  # type: ignore[arg-type]
    )


def fit(method: Supervised, corpus: Path, epochs: int = 1) -> Supervised:
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    Trainer(max_epochs=epochs, **silent).fit(method, datamodule=MERData(corpus=str(corpus)))  # type: ignore[arg-type]
    return method


@pytest.mark.parametrize("family", FAMILIES)
def test_says_of_each_text_what_transformers_says_of_it_alone(tmp_path: Path, family: str) -> None:
    folder = tiny_encoder(tmp_path, family)
    encoder = HuggingFace(str(folder)).eval()
    peer = transformers.AutoModel.from_pretrained(folder).eval()
    batch = with_tokens(make_batch())
    with torch.no_grad():
        found = encoder(batch.features["text"], batch.key_mask("text"))
        assert found.shape == (6, 6, encoder.width)
        for row, length in enumerate(batch.lengths["text"].tolist()):
            ids = batch.features["text"][row, :length, 0].long()
            alone = peer(input_ids=ids[None], attention_mask=torch.ones(1, length)).last_hidden_state[0]
            torch.testing.assert_close(found[row, :length], alone, rtol=1e-5, atol=1e-5)
            assert not found[row, length:].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_absent_texts_may_hold_anything(tmp_path: Path, family: str) -> None:
    encoder = HuggingFace(str(tiny_encoder(tmp_path, family))).eval()
    batch = with_tokens(make_batch())
    key_mask = batch.key_mask("text")
    key_mask[3] = False  # no text at all
    with torch.no_grad():
        before = encoder(batch.features["text"], key_mask)
        for surprise in (1e9, -5.0, float("nan"), float("inf")):
            changed = batch.features["text"].where(key_mask.unsqueeze(2), surprise)
            assert torch.equal(encoder(changed, key_mask), before)
            changed[2] = surprise  # a text that a model may not look at: only its own row may change
            said = encoder(changed, key_mask)
            assert said.isfinite().all()
            torch.testing.assert_close(said[[0, 1, 3, 4, 5]], before[[0, 1, 3, 4, 5]])
    assert before.isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_layers_do_not_move_and_do_not_drop_out(tmp_path: Path, corpus: Path, family: str) -> None:
    folder = tiny_encoder(tmp_path / family, family)
    method = fit(method_with(folder, frozen_layers=2, lr=1e-2), corpus)
    before = HuggingFace(str(folder)).model.state_dict()
    for name, value in method.inputs.text_encoder.model.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith("encoder.layer.2."), name
    model = method.train().inputs.text_encoder.model
    assert not model.embeddings.training
    assert [layer.training for layer in model.encoder.layer] == [False, False, True]
    assert not any(part.training for part in model.encoder.layer[0].modules())


def test_frozen_layers_build_no_graph_and_minus_one_freezes_everything(tmp_path: Path) -> None:
    batch = with_tokens(make_batch())
    given = batch.features["text"], batch.key_mask("text")
    folder = str(tiny_encoder(tmp_path))
    frozen = HuggingFace(folder, frozen_layers=-1)
    assert not frozen(*given).requires_grad
    assert not any(part.training for part in frozen.model.modules())
    free = HuggingFace(folder)
    assert all(parameter.requires_grad for parameter in free.parameters())
    assert free.model.encoder.layer[0].training  # transformers hands models over in evaluation mode
    seen = []
    partly = HuggingFace(folder, frozen_layers=1)
    partly.model.encoder.layer[0].register_forward_hook(lambda *args: seen.append(args[2].requires_grad))
    assert partly(*given).requires_grad
    assert seen == [False]


def test_its_learning_rate_is_its_own_and_follows_the_schedule(tmp_path: Path) -> None:
    method = method_with(tiny_encoder(tmp_path), frozen_layers=1, lr=2e-5)
    method.trainer = Trainer(max_steps=100, logger=False, enable_checkpointing=False, accelerator="cpu")
    found = method.configure_optimizers()
    groups = found["optimizer"].param_groups
    own = {id(parameter) for parameter in method.inputs.text_encoder.parameters() if parameter.requires_grad}
    grouped = [{id(parameter) for parameter in group["params"]} for group in groups]
    assert grouped[2] | grouped[3] == own
    assert sum(map(len, grouped)) == sum(parameter.requires_grad for parameter in method.parameters())
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0, 0.01, 0.0]
    assert [group["initial_lr"] for group in groups] == [1e-3, 1e-3, 2e-5, 2e-5]
    for _ in range(3):
        found["optimizer"].step()
        found["lr_scheduler"]["scheduler"].step()
    assert [group["lr"] for group in groups] == pytest.approx([4e-4, 4e-4, 8e-6, 8e-6])


def test_ids_are_not_standardised_and_are_encoded_once_for_all_conditions(tmp_path: Path, corpus: Path) -> None:
    method = fit(method_with(tiny_encoder(tmp_path)), corpus).eval()
    split = open_corpus(corpus).split("official", "test")
    batch = split.batch(torch.arange(len(split)))
    seen = []
    method.inputs.text_encoder.model.embeddings.register_forward_hook(lambda module, args, out: seen.append(1))
    with torch.no_grad():
        expected = method.inputs.text_encoder(batch.features["text"], batch.key_mask("text"))
        assert torch.equal(method.inputs(batch).features["text"], expected)
        seen.clear()
        method.condition_outputs(batch, freeze(Protocol(["fixed-7", "rate-imder"]), split))
    assert len(seen) == 1


def test_a_corpus_without_text_before_and_after_training(tmp_path: Path) -> None:
    folder = str(tiny_encoder(tmp_path))
    with pytest.raises(Refusal, match="expected token ids as text; found no text"):
        Supervised({"audio": 5}, Regression().card(), LateTransformer, text_encoder=lambda: HuggingFace(folder))
    with pytest.raises(Refusal, match="found text features 12 wide"):
        Supervised(DIMS, Regression().card(), LateTransformer, text_encoder=lambda: HuggingFace(folder))
    method = method_with(tmp_path).eval()
    batch = with_tokens(make_batch()).limited_to(torch.tensor([False, True, True]))
    bare = replace(batch, features=dict(batch.features), lengths=dict(batch.lengths))
    for part in (bare.features, bare.lengths):
        del part["text"]
    with torch.no_grad():
        masked, without = (method.inputs(each) for each in (batch, bare))
        assert without.features["text"].shape == (6, 1, WIDTH)
        states = [method.backbone.fuse(method.backbone.encode(each), each.present) for each in (masked, without)]
    assert torch.equal(*states)


def test_what_does_not_fit_is_refused_before_training(tmp_path: Path, corpus: Path, tiny_raw) -> None:
    folder = tiny_encoder(tmp_path / "bert")
    plain = Supervised(TOKEN_DIMS, Regression().card(), lambda dims: LateTransformer(dims, width=8, depth=1))
    with pytest.raises(Refusal, match="expected a text encoder for token ids"):
        fit(plain, corpus)
    other = tokens_for_text(tiny_raw())
    other.features["text"].values[3] = VOCABULARY
    write_corpus(other, tmp_path / "other", "other")
    with pytest.raises(Refusal, match=f"expected token ids from 0 to {VOCABULARY - 1}; found {VOCABULARY}"):
        fit(method_with(folder), tmp_path / "other")
    with pytest.raises(Refusal, match=f"expected -1 to {LAYERS}"):
        HuggingFace(str(folder), frozen_layers=LAYERS + 1)
    encoder, long = HuggingFace(str(folder)), torch.zeros(1, POSITIONS + 1, 1)
    encoder(long[:, 1:], torch.ones(1, POSITIONS, dtype=torch.bool))
    with pytest.raises(Refusal, match=f"at most {POSITIONS} word pieces; found {POSITIONS + 1}"):
        encoder(long, torch.ones(1, POSITIONS + 1, dtype=torch.bool))
    with pytest.raises(Refusal, match="in bfloat16"):
        encoder(long[:, 1:].bfloat16(), torch.ones(1, POSITIONS, dtype=torch.bool))


def test_roberta_counts_its_positions_from_behind_the_padding(tmp_path: Path) -> None:
    encoder = HuggingFace(str(tiny_encoder(tmp_path, "roberta")))
    most = POSITIONS - 2
    encoder(torch.full((1, most, 1), 5.0), torch.ones(1, most, dtype=torch.bool))
    with pytest.raises(Refusal, match=f"at most {most} word pieces"):
        encoder(torch.full((1, most + 1, 1), 5.0), torch.ones(1, most + 1, dtype=torch.bool))


def test_folders_without_whole_and_safe_weights_are_refused(tmp_path: Path) -> None:
    folder = tiny_encoder(tmp_path)
    weights = folder / "model.safetensors"
    from safetensors.torch import load_file, save_file

    whole = load_file(weights)
    save_file({name: v for name, v in whole.items() if "layer.1.output" not in name}, weights, {"format": "pt"})
    with pytest.raises(Refusal, match=r"weights for the whole encoder; found none for .* the first encoder\.layer\.1"):
        HuggingFace(str(folder))
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(Refusal, match="SafetensorError"):
        HuggingFace(str(folder))
    weights.unlink()
    torch.save(whole, folder / "pytorch_model.bin")  # a pickle, which may run anything
    with pytest.raises(Refusal, match=r"model\.safetensors"):
        HuggingFace(str(folder))
    with pytest.raises(Refusal, match="a folder with"):
        HuggingFace(str(tmp_path / "nowhere" / "at" / "all"))
    config = transformers.DistilBertConfig(vocab_size=VOCABULARY, dim=WIDTH, hidden_dim=32, n_layers=1, n_heads=2)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "other")
    with pytest.raises(Refusal, match=r"built like BERT.*found distilbert"):
        HuggingFace(str(tmp_path / "other"))


def test_code_beside_an_encoder_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers would ask on the terminal whether to run it."""
    folder, mark = tiny_encoder(tmp_path / "bert"), tmp_path / "mark"
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config", "AutoModel": "theirs.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "theirs.py").write_text(f"open({str(mark)!r}, 'w')")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(Refusal, match="custom code"):
        HuggingFace(str(folder))
    assert not mark.exists()


def test_without_the_extra_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(Refusal, match=r"pip install 'mer-lightning\[text\]'"):
        HuggingFace(str(tmp_path))


def test_fit_and_test_from_the_command_line(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tiny_encoder(tmp_path / "bert")
    Path("experiment.yaml").write_text(
        f"""
model:
  class_path: supervised
  init_args:
    backbone: {{class_path: late_transformer, init_args: {{width: 8, depth: 1}}}}
    text_encoder: {{class_path: hugging_face, init_args: {{path: {folder}, frozen_layers: 1, lr: 1.0e-2}}}}
data: {{corpus: {corpus}}}
trainer: {{max_epochs: 2, enable_progress_bar: false, accelerator: cpu}}
"""
    )
    assert main(["fit", "--config", "experiment.yaml", "--run_dir", "run"]) == 0
    assert main(["test", "--run", "run", "--run_dir", "tested"]) == 0
    rows = pd.read_csv("run/results.csv")
    assert rows["feature_set"][0].startswith("tokens tiny")
    assert Path("tested/results.csv").read_text() == Path("run/results.csv").read_text()

    loaded = load_method("run/checkpoints/best.ckpt").inputs.text_encoder
    fresh = HuggingFace(str(folder))
    assert loaded.lr == 1e-2
    moved = {
        name.split(".")[2]
        for (name, trained), given in zip(loaded.model.named_parameters(), fresh.model.parameters(), strict=True)
        if not torch.equal(trained, given)
    }
    assert moved == {"1", "2"}
