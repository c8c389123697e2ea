"""What encoders are trained to do: masked tokens, sentence pairs, replaced tokens, classification."""

import numpy as np

from .. import objectives
from .._check import whole
from ..autograd import functional as F
from ..data import IGNORE
from ..objectives.replaced import DISCRIMINATOR_WEIGHT
from .task import ExampleTask, Task, WindowTask, count_labels, label_loss, slices


class MaskedTask(WindowTask):
    """RoBERTa: windows of text framed by [CLS] and [SEP], masked anew each time."""

    objective = "masked"
    head = "masked_lm"
    frame = ("cls", "sep")
    split = (0.8, 0.1, 0.1)

    def __init__(self, train, held, context: int, tokenizer, **options):
        need_roles(tokenizer, self.objective, "cls", "sep", "mask", "pad")
        super().__init__(train, held, context - 2, **options)
        self.tokenizer, self.special = tokenizer, tokenizer.special

    def make(self, windows, rng, **options):
        ids = np.pad(windows, ((0, 0), (1, 1)), constant_values=self.special["cls"])
        ids[:, -1] = self.special["sep"]
        return masked_batch(self.tokenizer, ids, np.ones_like(ids), rng, split=self.split, **options)


class ReplacedTask(MaskedTask):
    """ELECTRA: the generator fills 15% masked tokens, the discriminator says of every token whether it was replaced."""

    objective = "replaced_token"
    head = "joint"
    split = (1.0, 0.0, 0.0)
    weights = {"generator": 1.0, "discriminator": DISCRIMINATOR_WEIGHT}

    def make(self, windows, rng):
        seeds = rng.integers(0, 2**62, size=len(windows))  # one for each, so that it does not matter with whom it is a batch
        batch = super().make(windows, rng, static=seeds)
        originals = np.where(batch["labels"] == IGNORE, batch["input_ids"], batch["labels"])
        return batch | {"originals": originals, "seed": seeds}

    def evaluation(self):
        """Made as one batch and then cut: what is drawn for a window does not depend on its neighbours in the batch."""
        return slices(self.make(self.windows, np.random.default_rng(0)), self.eval_batch)

    def counts(self, batch):
        return {"generator": count_labels(batch["labels"]), "discriminator": int(batch["attention_mask"].sum())}

    def targets(self, batch):
        """The discriminator's as they are when the generator draws masked tokens by their frequency."""
        labels, rng = batch["labels"], np.random.default_rng(batch["seed"])
        masked = labels != IGNORE
        replaced = np.where(batch["attention_mask"] != 0, 0, IGNORE)
        replaced[masked] = rng.permutation(labels[masked]) != labels[masked]
        return {"generator": labels, "discriminator": replaced}

    def sums(self, model, batch):
        logits = model.generator(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        ids, labels = self.replace(batch, logits._data)
        verdict = model.discriminator(input_ids=ids, attention_mask=batch["attention_mask"]).logits
        return {"generator": label_loss(logits, batch["labels"]), "discriminator": binary_loss(verdict, labels)}

    def replace(self, batch, logits):
        """What the discriminator reads, and its labels (B, T): every row a batch of its own, drawn by its own generator."""
        columns = [a[:, None] for a in (batch["originals"], batch["labels"], logits, batch["attention_mask"])]
        rows = [
            objectives.replaced_token(*row, attention_mask=mask, rng=np.random.default_rng(seed))
            for *row, mask, seed in zip(*columns, batch["seed"])
        ]
        return (np.concatenate([r[name] for r in rows]) for name in ("input_ids", "labels"))


class PairTask(Task):
    """BERT: masked tokens and next sentence. Documents are lists of sentences, sentences arrays of ids."""

    objective = "masked+next_sentence"
    head = "pretraining"
    frame = ("cls", "sep")
    weights = {"masked": 1.0, "pair": 1.0}
    make_pairs = staticmethod(objectives.next_sentence)
    label = "next_sentence_label"
    pair_logits = "seq_relationship_logits"

    def __init__(
        self, train, held, context: int, tokenizer, *, seed: int = 0, eval_pairs: int | None = 64, eval_batch: int = 16
    ):
        need_roles(tokenizer, self.objective, "cls", "sep", "mask", "pad")
        self.train, self.held, self.context, self.tokenizer = train, held, context, tokenizer
        self.special = tokenizer.special
        self.rng, self.noise = np.random.default_rng(seed), np.random.default_rng([seed, 1])
        self.eval_pairs, self.eval_batch = eval_pairs, whole("eval_batch", eval_batch, 1)

    def batch(self, documents, n: int | None, rng, noise):
        """n pairs, drawn from `rng`; None: all that the documents hold. `noise` is for the masks alone: neither depends on n."""
        roles = {f"{r}_id": self.special[r] for r in ("cls", "sep", "pad")}
        pairs = self.make_pairs(documents, n, max_length=self.context, rng=rng, **roles)
        return pairs | masked_batch(self.tokenizer, pairs["input_ids"], pairs["attention_mask"], noise)

    def draw(self, batch: int):
        return self.batch(self.train, batch, self.rng, self.noise)

    def evaluation(self):
        rng = np.random.default_rng(0)
        return slices(self.batch(self.held, self.eval_pairs, rng, rng), self.eval_batch)

    def targets(self, batch):
        return {"masked": batch["labels"], "pair": batch[self.label]}

    def sums(self, model, batch):
        out = model(**{k: batch[k] for k in self.keys})
        return {
            "masked": label_loss(out.prediction_logits, batch["labels"]),
            "pair": label_loss(getattr(out, self.pair_logits), batch[self.label]),
        }

    def state_dict(self) -> dict:
        return {"rng": self.rng.bit_generator.state, "noise": self.noise.bit_generator.state}

    def load_state_dict(self, state: dict) -> None:
        self.rng.bit_generator.state, self.noise.bit_generator.state = state["rng"], state["noise"]


class OrderTask(PairTask):
    """ALBERT: masked tokens and sentence order."""

    objective = "masked+sentence_order"
    make_pairs = staticmethod(objectives.sentence_order)
    label = "sentence_order_label"
    pair_logits = "sop_logits"


class ClassificationTask(ExampleTask):
    """One label per text. Examples are pairs (ids, class)."""

    objective = "classification"
    head = "sequence_classification"
    frame = ("cls", "sep")

    def __init__(self, train, held, context: int, tokenizer, **options):
        super().__init__(train, held, **options)
        self.context, self.special = context, tokenizer.special

    def make(self, examples):
        return classified_batch(self.special, *zip(*examples), max_length=self.context)

    def evaluation(self):
        return [self.make(self.held[i : i + self.eval_batch]) for i in range(0, len(self.held), self.eval_batch)]


def classified_batch(special: dict[str, int], texts, labels, max_length: int | None = None):
    """objectives.classification with these special tokens: [CLS] text [SEP]; classifiers judge by the state at one of the two."""
    return objectives.classification(texts, labels, pad_id=padding(special) or 0, cls_id=special.get("cls"),
                                     sep_id=special.get("sep"), max_length=max_length)  # fmt: skip


def padding(special: dict[str, int]) -> int | None:
    """The id that pads texts: GPT-2's tokenizer has none of its own, and attention_mask hides it anyway."""
    return special.get("pad", special.get("eos"))


def masked_batch(tokenizer, ids, attention_mask, rng, **options):
    """objectives.masked with this tokenizer's vocabulary and special tokens."""
    special = tokenizer.special
    return objectives.masked(ids, mask_id=special["mask"], vocab_size=tokenizer.vocab_size, special=set(special.values()),
                             attention_mask=attention_mask, rng=rng, **options)  # fmt: skip


def binary_loss(logits, labels):
    """Σ of -log σ(±logit) over labels 0 and 1, both (B, T); -100 does not count."""
    counted = labels != IGNORE
    loss = F.binary_cross_entropy_with_logits(logits, np.where(counted, labels, 0).astype(logits.dtype), reduction="none")
    return (loss * counted.astype(logits.dtype)).sum()


def need_roles(tokenizer, objective: str, *roles: str) -> None:
    if not isinstance(getattr(tokenizer, "special", None), dict):
        raise TypeError(f"tokenizer: expected one of text.train or text.load, got a {type(tokenizer).__name__}")
    missing = [r for r in roles if r not in tokenizer.special]
    if missing:
        raise ValueError(f"objective {objective} needs special tokens that this tokenizer has not: {', '.join(missing)}")
