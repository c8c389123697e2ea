"""What encoder-decoders are trained to do: translate, fill spans in, undo noise."""

from .. import objectives
from ..data import by_length
from ..models.seq2seq import shift_right
from ..text.base import sentinels_in
from .encoder_tasks import need_roles
from .task import ExampleTask, Task, WindowTask, label_loss


class TeacherForced(Task):
    """The decoder sees the start token and then the labels, one place to the right."""

    head = "seq2seq_lm"
    frame = (None, "eos")

    def logits(self, model, batch):
        """(B, T, V)"""
        decoder = shift_right(batch["labels"], model.config)
        return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], decoder_input_ids=decoder).logits


class SpanTask(TeacherForced, WindowTask):
    """T5: windows with corrupted spans; the target spells the spans out."""

    objective = "span_corruption"

    def __init__(self, train, held, context: int, tokenizer, **options):
        need_roles(tokenizer, self.objective, "pad", "eos", "extra_0")
        self.special = tokenizer.special
        self.sentinels = sentinels_in(tokenizer.special)
        super().__init__(train, held, context - 1, **options)

    def make(self, windows, rng):
        eos = self.special["eos"]
        pairs = [objectives.span_corruption(w, sentinels=self.sentinels, eos_id=eos, rng=rng) for w in windows]
        return objectives.translation(*zip(*pairs), pad_id=self.special["pad"])


class InfillingTask(TeacherForced, WindowTask):
    """BART: sentences in random order with spans masked; the target is the text as it was."""

    objective = "text_infilling"

    def __init__(self, train, held, context: int, tokenizer, *, sentence_ends=(), **options):
        need_roles(tokenizer, self.objective, "pad", "eos", "mask")
        self.special, self.ends = tokenizer.special, list(sentence_ends)
        # infilling may lengthen a text (masks of length 0): leave an eighth of the context free; what is still longer is cut
        self.context = context
        super().__init__(train, held, context - context // 8 - 1, **options)

    def make(self, windows, rng):
        noisy = [
            objectives.text_infilling(
                objectives.permute_sentences(w, ends=self.ends, rng=rng) if self.ends else w, mask_id=self.special["mask"], rng=rng
            )
            for w in windows
        ]
        roles = {f"{r}_id": self.special[r] for r in ("pad", "eos")}
        return objectives.translation(noisy, windows, max_length=self.context, **roles)


class TranslationTask(TeacherForced, ExampleTask):
    """Pairs (source ids, target ids), with label smoothing (Szegedy et al. 2016 §7; 0.1 in Vaswani et al. 2017 §5.4)."""

    objective = "translation"

    def __init__(
        self, train, held, context: int, tokenizer, *, label_smoothing: float = 0.1, eval_examples: int | None = 256, **options
    ):
        need_roles(tokenizer, self.objective, "pad", "eos")
        super().__init__(train, held, eval_examples=eval_examples, **options)
        self.special, self.context, self.smoothing = tokenizer.special, context, label_smoothing

    def make(self, pairs):
        return objectives.translation(*zip(*pairs), pad_id=self.special["pad"], eos_id=self.special["eos"], max_length=self.context)

    def evaluation(self):
        groups = by_length([len(s) for s, _ in self.held], self.eval_batch)
        return [self.make([self.held[i] for i in g]) for g in groups]

    def sums(self, model, batch):
        return {"loss": label_loss(self.logits(model, batch), batch["labels"], self.smoothing if model.training else 0.0)}
