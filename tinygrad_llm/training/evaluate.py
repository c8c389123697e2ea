"""Loss and accuracy on held-out batches. Evaluation draws nothing from the generators that training draws from."""

import math

import numpy as np

from ..autograd import no_grad


def evaluate(task, model, batches) -> dict[str, float]:
    """{"loss": weighted mean over all predictions, and each part of it by name}, in evaluation mode."""
    was_training = model.training
    model.eval()
    sums, counts = dict.fromkeys(task.weights, 0.0), dict.fromkeys(task.weights, 0)
    try:
        with no_grad():
            for batch in batches:
                for name, value in task.sums(model, batch).items():
                    sums[name] += float(value.item())
                for name, n in task.counts(batch).items():
                    counts[name] += n
    finally:
        model.train(was_training)
    parts = {name: sums[name] / max(counts[name], 1) for name in sums}
    return {**parts, "loss": sum(task.weights[name] * parts[name] for name in parts)}


def perplexity(loss: float) -> float:
    """e^loss; infinite where that overflows."""
    return math.exp(loss) if loss < 700 else math.inf


def unigram_loss(train_ids, held_ids, vocab_size: int) -> float:
    """Loss of a model that knows only how often each token occurs (add-one smoothed): what any training must beat."""
    counts = np.bincount(np.asarray(train_ids), minlength=vocab_size) + 1.0
    log_p = np.log(counts / counts.sum())
    return float(-log_p[np.asarray(held_ids)].mean())
