"""Loss and accuracy on held-out batches. Evaluation draws nothing from the generators that training draws from."""

import itertools
import math

import numpy as np

from ..autograd import no_grad
from ..data import IGNORE
from ..nn import evaluating
from .processes import ALONE


def evaluate(task, model, batches, processes=ALONE) -> dict[str, float]:
    """{"loss": weighted mean over all predictions, and each part of it by name}, in evaluation mode.

    Several processes take the batches in turns, and all of them know the result.
    """
    sums, counts = dict.fromkeys(task.weights, 0.0), dict.fromkeys(task.weights, 0)
    with no_grad(), evaluating(model):
        for batch in itertools.islice(batches, processes.number, None, processes.count):
            for name, value in task.sums(model, batch).items():
                sums[name] += float(value.item())
            for name, n in task.counts(batch).items():
                counts[name] += n
    sums, counts = processes.total(sums), processes.total(counts)
    if not any(counts.values()):
        raise ValueError("evaluate: expected batches with something to predict (labels other than -100), got none; "
                         "a generator gives its batches once")  # fmt: skip
    parts = {name: sums[name] / max(counts[name], 1) for name in sums}
    return {**parts, "loss": sum(task.weights[name] * parts[name] for name in parts)}


def perplexity(loss: float) -> float:
    """e^loss; infinite where that overflows, NaN where the loss is."""
    return math.inf if loss >= 700 else math.exp(loss)


def unigram_loss(task, batches) -> float:
    """The loss of the best model that looks at no input and knows only how often each target occurs: what training must beat.

    Per part of the loss the entropy -Σ p log p + (K - 1) / 2N of its N targets of K kinds in these batches, with the parts'
    weights; the second term is what the first lacks because the frequencies come from so few targets (Miller 1955). Where
    a part's targets depend on another model (ELECTRA's discriminator), the task says what they would be.
    """
    total = 0.0
    for name, weight in task.weights.items():
        targets = np.concatenate([np.ravel(task.targets(batch)[name]) for batch in batches])
        _, counts = np.unique(targets[targets != IGNORE], return_counts=True)
        n = max(counts.sum(), 1)
        p = counts / n
        total += weight * float(-(p * np.log(p)).sum() + (len(counts) - 1) / (2 * n))
    return total
