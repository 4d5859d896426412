"""MCUR weighs samples by what it is unsure of, and remembers keys and predictions."""

from __future__ import annotations

from itertools import count

import pytest
import torch
from torch import Tensor

from mer_lightning.batch import Batch
from mer_lightning.contract import TASKS
from mer_lightning.losses.contrast import Keys
from mer_lightning.methods.mcur.memory import ContrastMemory
from mer_lightning.methods.mcur.uncertainty import predictive_uncertainty, sample_weights
from mer_lightning.tasks import Task
from tests.methods.test_mcur import make, masked_batch, ready


@pytest.mark.parametrize("direction", ["suppress", "emphasize"])
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_predictive_weights(task: Task, direction: str, monkeypatch) -> None:
    method = ready(make(task, estimator="predictive", direction=direction, contrast_weight=0.0), monkeypatch).eval()
    method.head.weight.data.mul_(20)  # an untrained head is equally unsure of everything
    batch = masked_batch(task)
    logits = method.head(method.backbone.fuse_many(method.backbone.encode(batch), _views(batch)))
    losses = torch.cat([task.losses(each, batch.target) for each in logits])
    weights = sample_weights(predictive_uncertainty(logits, task).flatten(), direction)
    assert weights.std() > 0.01
    expected = (weights * losses).mean()
    found = method.training_losses(batch)["task"][0]
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    # Weights are constants: the gradient is that of the losses.
    gradients = [torch.autograd.grad(each, method.head.weight, retain_graph=True)[0] for each in (expected, found)]
    torch.testing.assert_close(*gradients)


def _views(batch: Batch) -> Tensor:
    return torch.stack([batch.present, batch.available])


def test_bank_weighs_by_what_it_remembers(monkeypatch) -> None:
    method, batch = ready(make(estimator="bank", views=1, contrast_weight=0.0), monkeypatch).eval(), masked_batch()
    method.bank.resize(len(batch))
    method.bank.table.fill_(1.0)
    first = method.task_losses(method.backbone.fuse(method.backbone.encode(batch), batch.present), batch)
    found = method.training_losses(batch)["task"][0]
    bits = (batch.present * torch.tensor([1, 2, 4])).sum(1)
    remembered = (0.9 + 0.1 * first).where(bits > 0, first)
    weights = sample_weights(remembered.detach(), "suppress")
    assert found.item() == pytest.approx((weights * first).mean().item(), abs=1e-6)
    kept = method.bank.table[torch.arange(len(batch)), (bits - 1).clamp(min=0)]
    torch.testing.assert_close(kept[bits > 0], remembered[bits > 0].detach())
    assert (method.bank.table != 1).sum() == (bits > 0).sum()


def test_memory_is_first_in_first_out_and_goes_on() -> None:
    memory, numbers = ContrastMemory(5, 2), count(1)
    for rows in (2, 2, 3):
        new = torch.tensor([next(numbers) for _ in range(rows)])
        memory.push(Keys(new[:, None].expand(-1, 2).float(), new, new, new))
    assert sorted(memory.categories.tolist()) == [3, 4, 5, 6, 7]
    assert memory.vectors[:, 1].tolist() == memory.combinations.tolist() == memory.categories.tolist()
    going_on = ContrastMemory(5, 2)
    going_on.load_state_dict(memory.state_dict())
    for each in (memory, going_on):
        each.push(Keys(torch.full((1, 2), 8.0), *(torch.tensor([8]) for _ in range(3))))
    assert sorted(going_on.categories.tolist()) == [4, 5, 6, 7, 8]
    assert going_on.categories.tolist() == memory.categories.tolist()
    memory.push(Keys(torch.zeros(9, 2), *(torch.arange(9) for _ in range(3))))
    assert sorted(memory.categories.tolist()) == [4, 5, 6, 7, 8]


def test_memory_brings_further_keys() -> None:
    """An empty memory changes nothing; then the batch before it is compared with, and is not itself an anchor."""
    without, method, batch = make().eval(), make(memory=200).eval(), masked_batch()
    first = [each.training_losses(batch)["contrast"][0].item() for each in (without, method)]
    assert first[0] == first[1]
    assert (method.memory.combinations > 0).sum() == _views(batch).any(2).sum()
    assert method.memory.vectors.norm(dim=1)[:80].tolist() == pytest.approx([1.0] * 80, abs=1e-5)
    assert not method.memory.vectors.requires_grad
    second = method.training_losses(batch)["contrast"][0]
    assert second.item() != pytest.approx(first[1], abs=1e-3)
