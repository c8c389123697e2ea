"""Training: tasks (where batches come from and what their loss is), the loop, checkpoints, evaluation, reports.

    task = CausalTask(train_ids, held_ids, context=64)     # two arrays of token ids
    Trainer(model, task, Options(steps=500), out="runs/mine", tokenizer=tokenizer).run()     # what `generate` and `inspect` take
"""

from .encoder_tasks import ClassificationTask, MaskedTask, OrderTask, PairTask, ReplacedTask
from .evaluate import evaluate, perplexity, unigram_loss
from .options import Options
from .processes import Processes
from .progress import Progress
from .seq2seq_tasks import InfillingTask, SpanTask, TranslationTask
from .task import CausalTask, Task, WindowTask
from .trainer import Trainer

__all__ = [
    "CausalTask", "ClassificationTask", "InfillingTask", "MaskedTask", "Options", "OrderTask", "PairTask", "Processes", "Progress",
    "ReplacedTask", "SpanTask", "Task", "Trainer", "TranslationTask", "WindowTask", "evaluate", "perplexity", "unigram_loss",
]  # fmt: skip
