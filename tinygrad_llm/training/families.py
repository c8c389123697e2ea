"""What each family is trained on by default, and how a laptop-sized member of it is described."""

from dataclasses import dataclass, replace

from .. import models
from ..models import registry
from .encoder_tasks import ClassificationTask, MaskedTask, OrderTask, PairTask, ReplacedTask
from .seq2seq_tasks import InfillingTask, SpanTask, TranslationTask
from .task import CausalTask, Task


@dataclass(frozen=True)
class Recipe:
    """preset: whose config is shrunk; style: whose special tokens; tokenizer: the kind used unless another is asked for."""

    preset: str
    objective: str
    style: str
    tokenizer: str = "chars"


RECIPES = {
    "gpt": Recipe("gpt", "causal", "plain"),
    "gpt2": Recipe("gpt2", "causal", "plain"),
    "gpt3": Recipe("gpt3-175b", "causal", "plain"),
    "llama": Recipe("llama-7b", "causal", "plain"),
    "bert": Recipe("bert-base", "masked+next_sentence", "bert"),
    "roberta": Recipe("roberta-base", "masked", "bart"),
    "albert": Recipe("albert-base", "masked+sentence_order", "bert"),
    "electra": Recipe("electra-small", "replaced_token", "bert"),
    "bart": Recipe("bart-base", "text_infilling", "bart"),
    "t5": Recipe("t5-small", "span_corruption", "t5"),
    "transformer": Recipe("transformer-base", "translation", "seq2seq"),
}

TASKS: tuple[type[Task], ...] = (
    CausalTask, MaskedTask, PairTask, OrderTask, ReplacedTask, InfillingTask, SpanTask, TranslationTask, ClassificationTask,
)  # fmt: skip

#: objective -> the head that it trains
HEADS = {task.objective: task.head for task in TASKS}

#: objective -> the roles of the tokens that its batches have before a text and after it
FRAMES = {task.objective: task.frame for task in TASKS}

#: What the decoder begins with, by style of special tokens: T5 with the pad token, BART with </s>.
DECODER_START = {"t5": "pad", "bart": "eos", "seq2seq": "bos"}

#: What a head named "pretraining" says of two sentences, and so what its model can be trained on. ELECTRA's says nothing of them.
PAIRS = {"BertForPreTraining": "masked+next_sentence", "AlbertForPreTraining": "masked+sentence_order"}


def objectives_of(head: str, model: type) -> list[str]:
    """The objectives whose loss a model with this head gives."""
    return [o for o, h in HEADS.items() if h == head and (h != "pretraining" or o == PAIRS.get(model.__name__))]


def usual_objective(model) -> str | None:
    """What a model is for where nobody says: what its family is trained on by default, else what its head can; None for no loss."""
    family, head = registry.place_of(model)
    able = objectives_of(head, type(model))
    usual = RECIPES[family.name].objective if family.name in RECIPES else None
    return usual if usual in able else next(iter(able), None)


def check_known(objective: str) -> None:
    if objective not in HEADS:
        raise ValueError(f"--objective: expected one of {', '.join(HEADS)}; got {objective!r}")


def check_objective(objective: str, who: str, heads: dict[str, type]) -> None:
    """Refuses what no model of {head: class} can be trained on."""
    check_known(objective)
    able = [o for head, model in heads.items() for o in objectives_of(head, model)]
    if objective not in able:
        hint = f"; it can do {', '.join(able)}" if able else ""
        raise ValueError(f"--objective {objective}: {who} has no head for it{hint}")


def recipe_for(name: str) -> tuple[str, Recipe]:
    """(family, recipe) for a family's name or any of its presets ("bert", "bert-base")."""
    if name in RECIPES:
        return name, RECIPES[name]
    try:
        family = registry.find(name)[0].name
    except ValueError as error:
        known = f"{', '.join(RECIPES)}, a preset of theirs, or a folder with a model"
        raise ValueError(f"--model: expected one of {known}; {error}") from None
    return family, replace(RECIPES[family], preset=name)


def small_init(width: int) -> float:
    """Standard deviation of the weights at the start: sqrt(2 / (5 D)), 0.0559 for D = 128 (Nguyen and Salazar 2019, section 2.2).

    GPT-2's 0.02 is that of D = 1,000. At a small width it starts the model so near zero that hundreds of steps go into leaving it:
    nanoGPT's recipe on Tiny Shakespeare ends at a held-out loss of 1.90 with 0.02 and of 1.72 with this.
    """
    return (2 / (5 * width)) ** 0.5


def small_model(
    recipe: Recipe,
    objective: str,
    tokenizer,
    *,
    layers: int,
    heads: int,
    width: int,
    context: int,
    dropout: float,
    init: float | None = None,
    labels: int = 2,
    rng=None,
):
    """A model of the recipe's family with these sizes and the tokenizer's vocabulary and special tokens.

    init: standard deviation of the weights at the start; None for `small_init`.
    """
    config = models.preset_config(recipe.preset)
    known = lambda name: name in vars(config) or name in type(config).attribute_map  # under its own or the common spelling
    if known("rope_parameters") and width // heads % 2:
        raise ValueError(f"--width {width}, --heads {heads}: {width // heads} columns a head; rotary positions need pairs")
    if init is not None and not known("initializer_range"):
        raise ValueError(f"--init {init:g}: {recipe.preset} gives each matrix a deviation of its own; leave --init out")
    sizes = {
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "vocab_size": tokenizer.vocab_size,
        "intermediate_size": 4 * width, "max_position_embeddings": context, "num_key_value_heads": heads,
        # the second half of an encoder-decoder, and the families' own further widths
        "num_decoder_layers": layers, "decoder_layers": layers, "decoder_attention_heads": heads, "decoder_ffn_dim": 4 * width,
        "d_kv": width // heads, "head_dim": width // heads,
        "generator_size": max(0.25, 1 / heads),  # of ELECTRA: one head must remain
        "embedding_size": width, "num_labels": labels,
        "initializer_range": init or small_init(width),
    }  # fmt: skip
    overrides = {k: v for k, v in sizes.items() if known(k)}
    if type(config).model_type == "roberta":
        overrides["max_position_embeddings"] = context + 2  # its positions count from the pad id on
    special = tokenizer.special
    roles = {"pad_token_id": "pad", "bos_token_id": "bos", "eos_token_id": "eos"}
    overrides |= {k: special.get(r) for k, r in roles.items() if known(k)}
    if known("decoder_start_token_id"):
        overrides["decoder_start_token_id"] = special[DECODER_START[recipe.style]]
    if known("forced_eos_token_id"):
        overrides["forced_eos_token_id"] = special.get("eos")
    return models.create(recipe.preset, head=HEADS[objective], rng=rng, dropout=dropout, **overrides)
