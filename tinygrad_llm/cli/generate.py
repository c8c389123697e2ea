"""`tinygrad-llm generate DIR`: let a model write."""

import math
import sys

#: what options hold that nobody gave; the others None
UNSET = {"stop": [], "beams": 1, "repetition_penalty": 1.0, "length_penalty": 1.0}
#: what only a model that writes token after token makes use of
WRITING = ("lookup", "stop", "beams", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "length_penalty")


def add_parser(subparsers):
    parser = subparsers.add_parser(
        "generate",
        help="let a trained model write",
        description="Continues a prompt (decoders), decodes a source (encoder-decoders), fills masks (encoders), or says to which "
        "classes a text belongs (classifiers).",
    )
    parser.add_argument("directory", metavar="DIR", help="a run of `train`, or any checkpoint directory")
    parser.add_argument(
        "--prompt", default=None, metavar="TEXT", help="text to go on from; for encoders text with [MASK] or <mask>"
    )
    parser.add_argument("--tokens", type=int, default=200, metavar="N", help="how many to write (default 200)")
    parser.add_argument(
        "--temperature", type=float, default=None, metavar="X", help="0: always the most probable token (default 0.8)"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="draw from the K most probable tokens")
    parser.add_argument("--top-p", type=float, metavar="P", help="draw from the fewest tokens that have probability P together")
    parser.add_argument("--min-p", type=float, metavar="P", help="draw from tokens at least P times as probable as the best")
    parser.add_argument(
        "--repetition-penalty", type=float, default=1.0, metavar="X", help="above 1: used tokens become less probable"
    )
    parser.add_argument("--beams", type=int, default=1, metavar="N", help="beam search (default 1: none)")
    parser.add_argument("--length-penalty", type=float, default=1.0, metavar="X", help="of beam search")
    parser.add_argument(
        "--lookup", type=int, metavar="N", help="the most probable tokens, faster where text repeats: guess N from earlier text"
    )
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end when this was written; may be repeated")
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed, the same text")
    parser.add_argument("--int8", action="store_true", help="weights in eight bits: faster, nearly the same probabilities")


def run(args) -> int:
    from tinygrad_llm.cli import UsageError

    check(args)
    import kernels
    from tinygrad_llm import models, text
    from tinygrad_llm.models.heads import VocabularyHead
    from tinygrad_llm.models.registry import head_of
    from tinygrad_llm.training.checkpoint import model_directory

    kernels.compile_beside("attention_cached.warmup", "chain.warmup")     # on a cold start, while the prompt's are compiled
    place = model_directory(args.directory)
    model, tokenizer = models.load(place), text.load(place)
    if args.int8:
        model.quantize("int8")
    if head_of(model) == "causal_lm":
        return write_continuation(model, tokenizer, args)
    if head_of(model) == "seq2seq_lm":
        return write_decoded(model, tokenizer, args)
    if head_of(model) == "sequence_classification":
        return write_classes(model, tokenizer, args)
    if not any(isinstance(part, VocabularyHead) for part in model.modules()):
        raise UsageError(f"{type(model).__name__} has no head for words, so it does not write")
    return write_filled(model, tokenizer, args)


def check(args) -> None:
    """What is wrong whatever the model is."""
    from tinygrad_llm.cli import UsageError, need

    need(args, "tokens", args.tokens >= 1, "at least 1")
    need(args, "temperature", args.temperature is None or 0 <= args.temperature < math.inf, "a finite number of at least 0")
    need(args, "top_k", args.top_k is None or args.top_k >= 1, "at least 1")
    need(args, "top_p", args.top_p is None or 0 < args.top_p <= 1, "a number above 0, at most 1")
    need(args, "min_p", args.min_p is None or 0 < args.min_p <= 1, "a number above 0, at most 1")
    need(args, "repetition_penalty", 0 < args.repetition_penalty < math.inf, "a finite number above 0")
    need(args, "beams", args.beams >= 1, "at least 1")
    need(args, "length_penalty", math.isfinite(args.length_penalty), "a finite number")
    need(args, "lookup", args.lookup is None or args.lookup >= 1, "at least 1")
    need(args, "stop", "" not in args.stop, "a text that can be written")
    need(args, "seed", args.seed is None or args.seed >= 0, "at least 0")
    if args.lookup is not None:
        if args.temperature or args.beams > 1:
            raise UsageError("--lookup writes the most probable tokens; leave out --temperature and --beams")
        args.temperature = 0.0


def refuse(args, names, why: str) -> None:
    """A usage error for the first of these options that was given, and would do nothing."""
    from tinygrad_llm.cli import UsageError, option

    for name in names:
        if getattr(args, name) != UNSET.get(name):
            raise UsageError(f"{option(name)}: {why}")


def sampling(args, tokenizer, warm: float) -> dict:
    """Arguments of generate; warm: the temperature where --temperature says none."""
    import numpy as np

    warm = warm if args.temperature is None else args.temperature
    if not warm:
        refuse(args, ("top_k", "top_p", "min_p"), "the most probable tokens are taken, none is drawn; leave it out or give "
                                                  "--temperature")  # fmt: skip
    if args.beams == 1:
        refuse(args, ("length_penalty",), "only beam search has it; leave it out or give --beams")
    drawn = (
        {"do_sample": True, "temperature": warm, "top_k": args.top_k, "top_p": args.top_p, "min_p": args.min_p} if warm > 0 else {}
    )
    if args.lookup is not None:
        drawn = {"prompt_lookup_num_tokens": args.lookup}
    stops = {"stop_strings": args.stop, "tokenizer": tokenizer} if args.stop else {}
    return {**drawn, **stops, "repetition_penalty": args.repetition_penalty, "rng": np.random.default_rng(args.seed)}


def prompt_ids(tokenizer, text: str, model):
    import numpy as np

    ids = tokenizer.framed(text)
    if not len(ids):
        start = model.config.bos_token_id
        ids = np.array([start if start is not None else 0])
    check_length(len(ids), model)
    return ids


def check_length(length: int, model) -> None:
    from tinygrad_llm.models.base import longest

    if length > (limit := longest(model)):
        raise ValueError(f"--prompt has {length} tokens, the model sees {limit} at once; give at most {limit}")


def write_continuation(model, tokenizer, args) -> int:
    from tinygrad_llm.generate.sliding import continue_ids
    from tinygrad_llm.training.samples import opening

    prompt = opening(tokenizer) if args.prompt is None else args.prompt
    ids = prompt_ids(tokenizer, prompt, model)
    options = sampling(args, tokenizer, 0.8 if args.beams == 1 else 0.0)
    if args.beams > 1:
        new = best_beam(model, ids, args, options)
        out = Stream(tokenizer, prompt)
        out(new)
    else:
        out = Stream(tokenizer, prompt)
        continue_ids(model, ids, args.tokens, options.pop("rng"), stream=out, **options)
    out.close()
    return 0


def best_beam(model, ids, args, options: dict):
    """The new ids. Beams do not slide: their scores are sums over one context."""
    from tinygrad_llm.generate import generate
    from tinygrad_llm.models.base import longest

    room = min(args.tokens, longest(model) + 1 - len(ids))  # the last one is not read
    got = generate(model, ids, max_new_tokens=room, num_beams=args.beams, length_penalty=args.length_penalty, **options)[0]
    new = got[len(ids) :]
    tell_if_full(len(new), room, args)
    return new


def tell_if_full(written: int, room: int, args) -> None:
    if written == room < args.tokens:
        print(f"the model's context is full after {room} of {args.tokens} tokens", file=sys.stderr)


def write_decoded(model, tokenizer, args) -> int:
    import numpy as np

    from tinygrad_llm.cli import UsageError
    from tinygrad_llm.generate import generate
    from tinygrad_llm.text.base import sentinels_in

    if args.prompt is None:
        raise UsageError("--prompt: an encoder-decoder needs a source text")
    source, eos = tokenizer.framed(args.prompt), tokenizer.special.get("eos")
    if eos is not None and eos not in source[-1:]:
        source = np.append(source, eos)
    options = sampling(args, tokenizer, 0.0)
    room = model.make_cache(args.tokens).capacity  # the start token is read, too, but the last one is not
    got = generate(model, source, max_new_tokens=room, num_beams=args.beams, length_penalty=args.length_penalty, **options)[0, 1:]
    hidden = set(tokenizer.special.values()) - set(sentinels_in(tokenizer.special))
    print(tokenizer.decode([t for t in got if t not in hidden]))
    tell_if_full(len(got), room, args)
    return 0


def write_filled(model, tokenizer, args) -> int:
    import numpy as np

    from tinygrad_llm.cli import UsageError
    from tinygrad_llm.generate import fill_mask

    refuse(args, WRITING, "this model fills masks, it does not continue a text; leave it out")
    special = tokenizer.special
    if "mask" not in special:
        raise UsageError("this model fills masks, and its tokenizer has none; use `eval` or `inspect`")
    spelling = tokenizer.decode([special["mask"]]).strip()
    text = (args.prompt or "").replace("[MASK]", spelling).replace("<mask>", spelling)
    if spelling not in text:
        raise UsageError(f"--prompt: an encoder fills masks; put {spelling} into the text")
    ids = np.concatenate([[special["cls"]], masked_ids(tokenizer, text, spelling), [special["sep"]]]).astype(np.int64)
    check_length(len(ids), model)
    for n, answer in enumerate(fill_mask(getattr(model, "generator", model), ids, special["mask"])[0]):
        print(f"mask {n + 1}: " + "  ".join(f"{tokenizer.decode([t])!r} {p:.1%}" for t, p in answer))
    return 0


def write_classes(model, tokenizer, args) -> int:
    """The text's classes, the most probable first; the values of a regression."""
    from tinygrad_llm import autograd
    from tinygrad_llm.autograd import functional as F
    from tinygrad_llm.cli import UsageError
    from tinygrad_llm.training.encoder_tasks import classified_batch

    refuse(args, WRITING, "this model classifies a text, it writes none; leave it out")
    if args.prompt is None:
        raise UsageError("--prompt: a classifier needs a text")
    kind = model.config.problem_type
    batch = classified_batch(tokenizer.special, [tokenizer.encode(args.prompt)], [0])
    check_length(batch["input_ids"].shape[1], model)
    with autograd.no_grad():
        scores = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[0]
        if kind != "regression":
            scores = F.sigmoid(scores) if kind == "multi_label_classification" else F.softmax(scores, axis=-1)
    pairs = sorted(zip(model.config.id2label.values(), scores.tolist()), key=lambda pair: -pair[1])
    print("  ".join(f"{name} {value:.4g}" if kind == "regression" else f"{name} {value:.1%}" for name, value in pairs))
    return 0


def masked_ids(tokenizer, text: str, spelling: str):
    """Ids of a text with masks. A subword tokenizer finds them itself, and RoBERTa's and ALBERT's take the space before them."""
    import numpy as np

    from tinygrad_llm.text.subword import SubwordTokenizer

    if isinstance(tokenizer, SubwordTokenizer):
        return tokenizer.encode(text)
    first, *others = (tokenizer.encode(piece) for piece in text.split(spelling))
    return np.concatenate([first, *(np.concatenate([[tokenizer.special["mask"]], piece]) for piece in others)])


class Stream:
    """Prints text as tokens come: the prompt, then every character that later tokens can no longer change."""

    def __init__(self, tokenizer, prompt: str):
        self.tokenizer = tokenizer
        self.go_on_from(tokenizer.encode(prompt).tolist())
        sys.stdout.write(prompt.lstrip("\n"))
        sys.stdout.flush()

    def go_on_from(self, ids: list[int]) -> None:
        """What stands before decides how a token is spelt: at the start of a text, " the" has no space, and "##ing" its signs."""
        self.ids, self.shown = ids, self.tokenizer.decode(ids)

    def __call__(self, tokens) -> None:
        self.ids += [int(t) for t in tokens.reshape(-1)]
        text = self.tokenizer.decode(self.ids)
        if not text.endswith("\ufffd"):  # a character whose bytes have not all come yet
            self.show(text)

    def show(self, text: str) -> None:
        sys.stdout.write(text[len(self.shown) :])
        sys.stdout.flush()
        self.shown = text
        if len(self.ids) > 64 and text.endswith((" ", "\n")):  # start anew, so that decoding stays short
            self.go_on_from(self.ids[-1:])

    def close(self) -> None:
        self.show(self.tokenizer.decode(self.ids))
        sys.stdout.write("\n")
        sys.stdout.flush()
