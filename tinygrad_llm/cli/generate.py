"""`tinygrad-llm generate DIR`: let a model write."""

import sys


def add_parser(subparsers):
    parser = subparsers.add_parser(
        "generate",
        help="let a trained model write",
        description="Continues a prompt (decoders), decodes a source (encoder-decoders), or fills masks (encoders).",
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
    return parser


def run(args) -> int:
    from tinygrad_llm.cli import UsageError

    if args.tokens < 1:
        raise UsageError(f"--tokens: expected at least 1, got {args.tokens}")
    if args.temperature is not None and args.temperature < 0:
        raise UsageError(f"--temperature: expected at least 0, got {args.temperature}")
    for name, top in (("top_k", None), ("top_p", 1), ("min_p", 1)):
        value = getattr(args, name)
        if value is not None and not (value > 0 and (top is None or value <= top)):
            raise UsageError(
                f"--{name.replace('_', '-')}: expected a number above 0{'' if top is None else ', at most 1'}; got {value}"
            )
    check_lookup(args)
    import kernels
    from tinygrad_llm import models, text
    from tinygrad_llm.training.checkpoint import model_directory

    kernels.compile_beside("attention_cached.warmup", "chain.warmup")     # on a cold start, while the prompt's are compiled
    place = model_directory(args.directory)
    model, tokenizer = models.load(place), text.load(place)
    model.eval()
    if args.int8:
        model.quantize("int8")
    if model.is_encoder_decoder:
        return write_decoded(model, tokenizer, args)
    if can_continue(model):
        return write_continuation(model, tokenizer, args)
    if args.lookup is not None:
        raise UsageError("--lookup: this model fills masks, it does not continue a text; leave it out")
    return write_filled(model, tokenizer, args)


def check_lookup(args) -> None:
    from tinygrad_llm.cli import UsageError

    if args.lookup is None:
        return
    if args.lookup < 1:
        raise UsageError(f"--lookup: expected at least 1, got {args.lookup}")
    if args.temperature or args.beams > 1:
        raise UsageError("--lookup writes the most probable tokens; leave out --temperature and --beams")
    args.temperature = 0.0


def can_continue(model) -> bool:
    return type(model).__name__.endswith(("LMHeadModel", "ForCausalLM"))


def sampling(args) -> dict:
    """Arguments of generate; without --temperature beams and encoder-decoders take the most probable tokens."""
    import numpy as np

    warm = args.temperature if args.temperature is not None else 0.8 if args.beams == 1 else 0.0
    drawn = (
        {"do_sample": True, "temperature": warm, "top_k": args.top_k, "top_p": args.top_p, "min_p": args.min_p} if warm > 0 else {}
    )
    if args.lookup is not None:
        drawn = {"prompt_lookup_num_tokens": args.lookup}
    return {**drawn, "repetition_penalty": args.repetition_penalty, "rng": np.random.default_rng(args.seed)}


def prompt_ids(tokenizer, text: str, model):
    import numpy as np

    ids = tokenizer.encode(text)
    if not len(ids):
        start = model.config.bos_token_id
        ids = np.array([start if start is not None else 0])
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and len(ids) > limit:
        raise ValueError(f"--prompt has {len(ids)} tokens, the model sees {limit} at once; give at most {limit}")
    return ids


def write_continuation(model, tokenizer, args) -> int:
    from tinygrad_llm.generate import generate
    from tinygrad_llm.training.samples import continue_ids

    prompt = "\n" if args.prompt is None else args.prompt
    ids = prompt_ids(tokenizer, prompt, model)
    out = Stream(tokenizer, prompt.lstrip("\n"))
    if args.beams > 1 or args.stop:
        limit = getattr(model.config, "max_position_embeddings", None)
        room = args.tokens if limit is None else min(args.tokens, limit + 1 - len(ids))
        stops = {"stop_strings": args.stop, "tokenizer": tokenizer} if args.stop else {}
        search = {"num_beams": args.beams, "length_penalty": args.length_penalty} if args.beams > 1 else {"stream": out}
        got = generate(model, ids, max_new_tokens=room, **sampling(args), **stops, **search)[0]
        if args.beams > 1:
            out(got[len(ids) :])
    else:
        options = sampling(args)
        continue_ids(model, ids, args.tokens, options.pop("rng"), stream=out, **options)
    out.close()
    return 0


def write_decoded(model, tokenizer, args) -> int:
    import numpy as np

    from tinygrad_llm.cli import UsageError
    from tinygrad_llm.generate import generate

    if args.prompt is None:
        raise UsageError("--prompt: an encoder-decoder needs a source text")
    eos = [tokenizer.special["eos"]] if "eos" in tokenizer.special else []
    source = np.concatenate([tokenizer.encode(args.prompt), eos]).astype(np.int64)
    args.temperature = 0.0 if args.temperature is None else args.temperature
    got = generate(
        model, source, max_new_tokens=args.tokens, num_beams=args.beams, length_penalty=args.length_penalty, **sampling(args)
    )[0, 1:]
    special = set(tokenizer.special.values())
    print(tokenizer.decode([t for t in got if t not in special or t in sentinels(tokenizer)]))
    return 0


def sentinels(tokenizer) -> set:
    return {i for role, i in tokenizer.special.items() if role.startswith("extra_")}


def write_filled(model, tokenizer, args) -> int:
    import numpy as np

    from tinygrad_llm.cli import UsageError
    from tinygrad_llm.generate import fill_mask

    special = tokenizer.special
    if "mask" not in special:
        raise UsageError("this model neither continues a text nor fills masks; use `eval` or `inspect`")
    spelling = tokenizer.decode([special["mask"]]).strip()
    text = (args.prompt or "").replace("[MASK]", spelling).replace("<mask>", spelling)
    if spelling not in text:
        raise UsageError(f"--prompt: an encoder fills masks; put {spelling} into the text")
    pieces = [tokenizer.encode(p) for p in text.split(spelling)]
    middle = [np.concatenate([[special["mask"]], p]) for p in pieces[1:]]
    ids = np.concatenate([[special["cls"]], pieces[0], *middle, [special["sep"]]]).astype(np.int64)
    for n, answer in enumerate(fill_mask(getattr(model, "generator", model), ids, special["mask"])[0]):
        print(f"mask {n + 1}: " + "  ".join(f"{tokenizer.decode([t])!r} {p:.1%}" for t, p in answer))
    return 0


class Stream:
    """Prints text as tokens come: the prompt, then every character that later tokens can no longer change."""

    def __init__(self, tokenizer, prompt: str):
        self.tokenizer, self.ids, self.shown = tokenizer, [], ""
        sys.stdout.write(prompt)
        sys.stdout.flush()

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
            self.ids, self.shown = [], ""

    def close(self) -> None:
        self.show(self.tokenizer.decode(self.ids))
        sys.stdout.write("\n")
        sys.stdout.flush()
