"""200 steps beside PyTorch: the same initial weights and batches give the same loss curve, within 1e-3 at every step.

Everything takes part: forward, backward, clipping, AdamW with its two groups, warm-up and cosine. T5 runs in float64: its
unscaled scores amplify the rounding of float32, so that after 150 steps two right programs are 0.004 apart.
"""

import numpy as np
import pytest
import torch
import transformers

from tests.training.small import prepared
from tinygrad_llm import optim, training
from tinygrad_llm.training.trainer import make_schedule

STEPS = 200
OPTIONS = training.Options(steps=STEPS, batch=6, lr=1e-3, warmup=20, eval_every=0, clip=0.5, weight_decay=0.1)
FAMILIES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "bert": "BertForPreTraining",
    "t5": "T5ForConditionalGeneration",
    "bart": "BartForConditionalGeneration",
}


def their_loss(model, batch):
    """The loss that the model itself computes; the causal windows have one token more than the context."""
    tensors = {k: torch.tensor(v) for k, v in batch.items() if k != "labels"}
    labels = torch.tensor(batch["labels"])
    if type(model).__name__.endswith(("LMHeadModel", "ForCausalLM")):
        logits = model(**tensors).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    return model(**tensors, labels=labels).loss


def their_run(model, batches):
    """PyTorch's own AdamW and clipping; the rates are those of our schedule, which has its own tests."""
    trained = list({id(p): p for p in model.parameters()}.values())
    groups = [{"params": [p for p in trained if p.ndim >= 2], "weight_decay": 0.1},
              {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=OPTIONS.lr, betas=(OPTIONS.beta1, OPTIONS.beta2))
    schedule = make_schedule(Rates(), OPTIONS)
    losses = []
    for batch in batches:
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr
        loss = their_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, OPTIONS.clip)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(loss.item())
    return losses


class Rates:
    """An optimizer that is nothing but a learning rate."""

    def __init__(self):
        self.param_groups = [{"lr": OPTIONS.lr}]


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_loss_curve_follows_pytorch(family, tmp_path):
    data, model = prepared(family, tmp_path=tmp_path, context=32, dropout=0.0, layers=2, width=32)
    model.save(tmp_path / "start")
    other = getattr(transformers, FAMILIES[family]).from_pretrained(tmp_path / "start").train()
    if family == "t5":
        model.astype(np.float64)
        other.double()
    trainer = training.Trainer(model, data.task, OPTIONS)
    model.train()
    batches, draw = [], data.task.draw

    def remembered(n):
        batches.append(draw(n))
        return batches[-1]

    data.task.draw = remembered
    ours = np.array([trainer.train_step()["loss"] for _ in range(STEPS)])
    theirs = np.array(their_run(other, batches))
    assert ours[-20:].mean() < ours[0] - 0.5, "it learns"
    worst = int(np.abs(ours - theirs).argmax())
    assert np.abs(ours - theirs).max() < 1e-3, f"step {worst + 1}: ours {ours[worst]}, PyTorch {theirs[worst]}"


@pytest.mark.parametrize(("kind", "more"), [
    *((kind, {}) for kind in ("SGD", "Adam", "AdamW")), *((kind, {"maximize": True}) for kind in ("SGD", "Adam", "AdamW")),
    ("SGD", {"nesterov": False, "dampening": 0.3}), ("Adam", {"amsgrad": True}), ("AdamW", {"amsgrad": True, "maximize": True}),
])  # fmt: skip
def test_optimizers_step_as_pytorchs(kind, more):
    """Ten steps in float64 on random gradients, with every option in use."""
    import tinygrad_llm as tg

    rng = np.random.default_rng(0)
    start = [rng.normal(size=s) for s in ((3, 4), (5,), (2, 3, 2))]
    options = {"lr": 0.03, "weight_decay": 0.1}
    options |= {"momentum": 0.9, "nesterov": True} if kind == "SGD" else {"betas": (0.8, 0.97), "eps": 1e-6}
    options |= more
    mine = [tg.Tensor(a.copy(), requires_grad=True) for a in start]
    yours = [torch.tensor(a.copy(), requires_grad=True) for a in start]
    a, b = getattr(optim, kind)(mine, **options), getattr(torch.optim, kind)(yours, **options)
    for _ in range(10):
        for p, q in zip(mine, yours):
            g = rng.normal(size=p.shape)
            p.grad, q.grad = tg.Tensor(g), torch.tensor(g)
        norm = optim.clip_grad_norm_(mine, 2.0)
        assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(yours, 2.0).item(), rel=1e-12)
        a.step(), b.step()
    for p, q in zip(mine, yours):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-9, atol=1e-12)


