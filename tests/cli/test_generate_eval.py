"""generate and eval as a user meets them, and what they say when something is wrong."""

import json
import os
import re
from types import SimpleNamespace

import numpy as np
import pytest

import kernels
from tests.cli.conftest import short
from tests.cli.test_inspect_describe import page_data
from tests.models.small import edit
from tests.training.small import TEXT, saved
from tinygrad_llm import models, text
from tinygrad_llm.cli import build_parser
from tinygrad_llm.cli.generate import Stream, check, tell_if_full
from tinygrad_llm.generate import fill_mask
from tinygrad_llm.training import whole_file


def test_generate(train, corpus, run, tmp_path):
    train(corpus)
    code, first, _ = run("generate", tmp_path / "run", "--prompt", "the ", "--tokens", 40, "--seed", 3)
    assert code == 0 and first.startswith("the ") and len(first) == 4 + 40 + 1
    assert run("generate", tmp_path / "run", "--prompt", "the ", "--tokens", 40, "--seed", 3)[1] == first
    assert run("generate", tmp_path / "run", "--prompt", "the ", "--tokens", 40, "--seed", 4)[1] != first
    greedy = [
        run("generate", tmp_path / "run", "--tokens", 5, "--temperature", 0, "--prompt", "the ", "--seed", s)[1] for s in (1, 2)
    ]
    assert greedy[0] == greedy[1]
    long = ["generate", tmp_path / "run", "--prompt", "the the ", "--tokens", 60]
    assert run(*long, "--lookup", 4)[:2] == run(*long, "--temperature", 0)[:2]
    code, out, _ = run("generate", tmp_path / "run", "--prompt", "the ", "--tokens", 8, "--beams", 3)
    assert code == 0 and len(out) == 4 + 8 + 1
    code, out, _ = run("generate", tmp_path / "run", "--prompt", "the ", "--tokens", 8, "--int8", "--seed", 3)
    assert code == 0 and len(out) == 4 + 8 + 1
    filters = ["--top-k", 3, "--top-p", 0.9, "--min-p", 0.1, "--repetition-penalty", 1.2, "--stop", "e"]
    code, out, _ = run("generate", tmp_path / "run", "--prompt", "the ", "--tokens", 8, *filters)
    assert code == 0 and out.startswith("the ") and "e" not in out[4:].rstrip("\n")[:-1]


def test_what_the_checkpoint_asks_for_in_vain_is_said_in_one_line(train, corpus, run, tmp_path):
    train(corpus)
    (tmp_path / "run" / "generation_config.json").write_text('{"num_beams": 4}')
    code, _, err = run("generate", tmp_path / "run", "--prompt", "the ", "--tokens", 4)
    assert code == 0
    assert "tinygrad-llm: the checkpoint asks for num_beams = 4: generate takes that from its arguments alone" in err.splitlines()
    assert ".py" not in err


def test_a_checkpoint_without_its_run_is_scored_within_its_positions(train, corpus, run, tmp_path):
    """RoBERTa's config counts two positions that no token can have."""
    assert train(corpus, "--model", "roberta", "--steps", 2)[0] == 0
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors", "vocabulary.json"):
        (bare / name).write_bytes((tmp_path / "run" / name).read_bytes())
    scores = [run("eval", place, corpus) for place in (tmp_path / "run", bare)]
    assert scores[0][0] == 0 and scores[1][:2] == scores[0][:2]


def test_a_text_longer_than_the_context(train, corpus, run, tmp_path):
    """The context is 16; `--stop` slides on as the rest does, beams say that they cannot."""
    train(corpus)
    words = ["generate", tmp_path / "run", "--prompt", "the ", "--tokens", 60, "--seed", 3]
    code, plain, _ = run(*words)
    assert code == 0 and run(*words, "--stop", "ZZZ")[:2] == (0, plain)
    new = plain[4:-1]
    first = {c: new.index(c) for c in new}
    for stop in (new[11], new[11:13], max(first, key=first.get)):  # the context's end, what lies on both sides, one that is late
        assert run(*words, "--stop", stop)[1] == plain[: 4 + new.index(stop) + len(stop)] + "\n"
    assert max(first.values()) > 12
    lookup = [*words, "--lookup", 3]
    assert run(*lookup, "--stop", "ZZZ")[:2] == run(*lookup)[:2]
    code, out, err = run(*words, "--beams", 2)
    room = re.search(r"context is full after (\d+) of 60 tokens", err)
    assert code == 0 and room and int(room[1]) == 16 + 1 - 4 and len(out) == 4 + 13 + 1  # the last token is not read
    code, out, err = run(*words, "--temperature", 1e-40)
    assert code == 0 and out == run(*words, "--temperature", 0)[1] and err == ""


@pytest.mark.parametrize("family", ["bart", "transformer"])
def test_a_decoder_stops_where_its_positions_end(family, train, run, tmp_path):
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("\n".join(f"{i} apples\t{i} pommes" for i in range(60)))
    assert train(pairs, "--model", family, "--steps", 2)[0] == 0
    words = ["generate", tmp_path / "run", "--prompt", "3 apples", "--repetition-penalty", 0.5]  # what it writes first, it repeats
    code, whole, err = run(*words)
    assert code == 0 and "context is full after 16 of 200 tokens" in err
    if family == "bart":  # the other repeats its start token, which is not shown
        assert run(*words, "--stop", whole[0])[:2] == (0, whole[0] + "\n")
    code, _, err = run(*words, "--top-k", 3)
    assert code == 2 and "--top-k" in short(err)


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece", "llama"])
def test_what_is_written_is_spelt_as_a_part_of_the_whole_text(kind, run, tmp_path):
    """A tokenizer may spell a token in another way at the start of a text: without its space, or with ##."""
    tk = pytest.importorskip("tokenizers")
    tokenizer = text.train("unigram" if kind == "llama" else kind, TEXT * 2 + "\n  é\n", 300 if kind == "bpe" else 60)
    if kind == "llama":
        steps = tk.decoders.Replace("▁", " "), tk.decoders.Fuse(), tk.decoders.Strip(" ", 1, 0)
        tokenizer.inner.decoder = tk.decoders.Sequence(list(steps))
    model = models.create("gpt2", vocab_size=tokenizer.vocab_size, n_layer=1, n_head=1, n_embd=8, n_positions=220,
                          rng=np.random.default_rng(0))  # fmt: skip
    model.save(tmp_path)
    tokenizer.save(tmp_path)
    ids = tokenizer.encode("the quick")
    for seed in range(2):
        options = {"do_sample": True, "temperature": 0.8, "eos_token_id": -1, "rng": np.random.default_rng(seed)}
        whole = tokenizer.decode(model.generate(ids, max_new_tokens=100, **options)[0])
        code, out, _ = run("generate", tmp_path, "--prompt", "the quick", "--tokens", 100, "--seed", seed)
        assert code == 0 and out == whole + "\n"


@pytest.mark.parametrize(("preset", "frame"), [("llama-7b", "<s> $A"), ("bart-base", "<s> $A </s>"), ("bart-base", "$A")])
def test_a_prompt_stands_within_the_tokens_that_the_tokenizer_puts_around_a_text(preset, frame, run, tmp_path):
    tk = pytest.importorskip("tokenizers")
    tokenizer = text.train("bpe", TEXT, 300, style="bart")
    bos, eos = (tokenizer.special[role] for role in ("bos", "eos"))
    tokenizer.inner.post_processor = tk.processors.TemplateProcessing(single=frame, special_tokens=[("<s>", bos), ("</s>", eos)])
    sizes = {"vocab_size": tokenizer.vocab_size, "hidden_size": 8, "max_position_embeddings": 32}
    if preset == "bart-base":
        layers = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in
                  (("layers", 1), ("attention_heads", 1), ("ffn_dim", 8))}  # fmt: skip
        model, after = models.create(preset, head="seq2seq_lm", **sizes, **layers), [eos]
    else:
        sizes |= {"num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "intermediate_size": 8}
        model, after = models.create(preset, **sizes), []
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.data[...] = rng.normal(0, 1, p.shape)  # far from even: what is written hangs on every token of the prompt
    model.save(tmp_path)
    tokenizer.save(tmp_path)
    ids = [*[bos] * frame.startswith("<s>"), *tokenizer.encode("the quick"), *after]
    new = model.generate(ids, max_new_tokens=9, eos_token_id=None if after else -1)[0]
    shown = [i for i in new if i not in (0, *tokenizer.special.values())] if after else new[1:]
    code, out, _ = run("generate", tmp_path, "--prompt", "the quick", "--tokens", 9, "--temperature", 0)
    assert code == 0 and out == tokenizer.decode(shown) + "\n"


@pytest.mark.parametrize("files", ["tokenizer.json", "vocab.json"])
def test_a_mask_takes_the_space_before_it_where_the_tokenizer_says_so(files, run, tmp_path):
    """RoBERTa learnt "the<mask> fox": the space belongs to the word that is missing."""
    tk = pytest.importorskip("tokenizers")
    tokenizer = text.train("bpe", TEXT, 300, style="bart")
    model = models.create("roberta-base", head="masked_lm", vocab_size=tokenizer.vocab_size, num_hidden_layers=1, hidden_size=8,
                          num_attention_heads=1, intermediate_size=8, rng=np.random.default_rng(0))  # fmt: skip
    model.save(tmp_path)
    if files == "tokenizer.json":
        tokenizer.inner.add_special_tokens([tk.AddedToken("<mask>", lstrip=True, special=True)])
        tokenizer.save(tmp_path)
    else:
        tokenizer.inner.model.save(str(tmp_path))
    cls, mask, sep = (tokenizer.special[role] for role in ("cls", "mask", "sep"))
    wanted = fill_mask(model, [cls, *tokenizer.encode("the"), mask, *tokenizer.encode(" fox"), sep], mask)[0][0]
    code, out, _ = run("generate", tmp_path, "--prompt", "the <mask> fox")
    assert code == 0 and out == "mask 1: " + "  ".join(f"{tokenizer.decode([t])!r} {p:.1%}" for t, p in wanted) + "\n"


def test_a_character_is_shown_when_all_its_bytes_have_come(capsys):
    out, shown = Stream(text.train("bytes", ""), "\n\na"), []
    for byte in "é€ x".encode():
        out(np.array([[byte]]))
        shown.append(capsys.readouterr().out)
    assert shown == ["a", "é", "", "", "€", " ", "x"]  # the first with the prompt, whose empty lines are not shown
    out(np.frombuffer(b"y" * 100, np.uint8))
    out(np.array([ord(" ")]))
    assert len(out.ids) == 1, "of a long text only the end is decoded again"
    out(np.array([ord("z"), "é".encode()[0]]))
    out.close()
    assert capsys.readouterr().out == "y" * 100 + " z\ufffd\n"


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_what_the_flags_say_reaches_the_generator(family, run, tmp_path, monkeypatch):
    data, model = saved(family, tmp_path)
    asked, fox = [], data.tokenizer.encode("fox")

    def generate(model, ids, **options):
        asked.append(options | {"model": model, "ids": ids})
        special = data.tokenizer.special
        if options.get("stream"):
            options["stream"](fox)
        return (np.append(ids, fox) if family == "gpt2" else np.array([0, special["extra_0"], *fox, special["eos"]]))[None]

    monkeypatch.setattr("tinygrad_llm.generate.generate", generate)
    monkeypatch.setattr("tinygrad_llm.generate.sliding.generate", generate)
    words = ["generate", tmp_path / "model", "--prompt", "the ", "--tokens", 3, "--repetition-penalty", 1.2, "--seed", 5]
    shown = "the fox\n" if family == "gpt2" else "<extra_id_0>fox\n"  # of what is special, T5's markers of spans alone
    wanted = {"max_new_tokens": 3, "do_sample": True, "temperature": 0.5, "top_k": 4, "top_p": 0.9, "min_p": 0.1,
              "repetition_penalty": 1.2, "stop_strings": ["zzz"]}  # fmt: skip
    flags = [["--temperature", 0.5, "--top-k", 4, "--top-p", 0.9, "--min-p", 0.1, "--stop", "zzz"], ["--beams", 2, "--length-penalty", 0.5]]
    for more, options in zip(flags, (wanted, {"num_beams": 2, "length_penalty": 0.5, "repetition_penalty": 1.2})):
        assert run(*words, *more) == (0, shown, "")
        got = asked.pop()
        assert {name: got.get(name) for name in options} == options
        assert got["rng"].bit_generator.state == np.random.default_rng(5).bit_generator.state
    assert "do_sample" not in got
    if family == "gpt2":
        assert run(*words, "--lookup", 4) == (0, shown, "") and asked[0]["prompt_lookup_num_tokens"] == 4
        assert "do_sample" not in asked[0]
        run(*words)
        assert asked[1]["do_sample"] and asked[1]["temperature"] == 0.8
        edit(tmp_path / "model", bos_token_id=7)
        run(*words, "--prompt", "", "--int8")
        assert asked[2]["ids"].tolist() == [7]
        with pytest.raises(RuntimeError, match="quantized"):
            asked[2]["model"].save(tmp_path)


def test_a_full_context_is_said_where_tokens_are_missing(capsys):
    for written, room, tokens in ((3, 5, 9), (5, 5, 5), (5, 5, 9)):
        tell_if_full(written, room, SimpleNamespace(tokens=tokens))
    assert capsys.readouterr().err == "the model's context is full after 5 of 9 tokens\n"


def test_of_electras_two_models_the_one_that_knows_words_fills_masks(run, tmp_path):
    data, model = saved("electra", tmp_path, context=32)
    cls, mask, sep = (data.tokenizer.special[role] for role in ("cls", "mask", "sep"))
    ids = [cls, *data.tokenizer.encode("the "), mask, *data.tokenizer.encode("ox"), sep]
    (answer,) = fill_mask(model.eval().generator, ids, mask)[0]
    code, out, _ = run("generate", tmp_path / "model", "--prompt", "the [MASK]ox")
    assert code == 0 and out == "mask 1: " + "  ".join(f"{data.tokenizer.decode([t])!r} {p:.1%}" for t, p in answer) + "\n"


def test_a_prompt_may_fill_the_context(run, tmp_path):
    data, model = saved("gpt2", tmp_path)
    fits = "the quick brown "
    assert len(fits) == 16 == model.config.max_position_embeddings
    code, out, err = run("generate", tmp_path / "model", "--prompt", fits, "--tokens", 2)
    assert code == 0 and len(out) == 16 + 2 + 1, err
    for words in (["inspect", "--text", fits], ["inspect", "--text", fits + "f"]):
        code, _, err = run(*words[:1], tmp_path / "model", *words[1:], "--out", tmp_path / "page.html", "--force")
        assert code == (len(words[-1]) > 16) and ("the text has 17 tokens, the model reads 16" in err) == bool(code)


def test_a_text_begins_with_what_the_vocabulary_has(train, run, tmp_path):
    line = tmp_path / "line.txt"
    line.write_text("one long line without an end. " * 90)
    train(line)
    code, out, err = run("generate", tmp_path / "run", "--tokens", 9)
    assert code == 0 and out.startswith(" ") and len(out) == 1 + 9 + 1, err


def test_eval(train, corpus, run, tmp_path):
    train(corpus)
    code, out, _ = run("eval", tmp_path / "run", corpus, "--json")
    result = json.loads(out)
    ids = np.frombuffer(TEXT.encode(), dtype=np.uint8)
    assert code == 0 and result["tokens"] == len(ids) - 1
    assert result["perplexity"] == pytest.approx(np.exp(result["loss"])) and result["loss_per_char"] == pytest.approx(
        result["loss"]
    )
    code, out, _ = run("eval", tmp_path / "run", corpus)
    assert code == 0 and "perplexity" in out


def test_eval_takes_as_many_examples_at_once_as_asked(train, corpus, run, tmp_path, monkeypatch):
    train(corpus)
    sizes = []
    plain = whole_file.evaluate
    monkeypatch.setattr(whole_file, "evaluate", lambda task, model, batches: sizes.append(len(batches[0]["labels"])) or plain(task, model, batches))
    answers = [json.loads(run("eval", tmp_path / "run", corpus, "--json", "-", *more)[1]) for more in ([], ["--batch", 3])]
    assert sizes == [16, 3] and answers[0]["loss"] == pytest.approx(answers[1]["loss"], rel=1e-5)


@pytest.mark.filterwarnings("ignore:overflow")
def test_an_endless_perplexity_is_valid_json(train, corpus, run, tmp_path):
    _, _, err = train(corpus, "--lr", 1000, "--warmup", 0, "--clip", 0)
    assert "no evaluation was better than" in err and "last model: " in err
    code, out, _ = run("eval", tmp_path / "run", corpus, "--json")
    result = json.loads(out, parse_constant=lambda name: pytest.fail(f"JSON has no {name}"))
    assert code == 0 and result["loss"] > 700 and result["perplexity"] is None
    assert "perplexity inf" in run("eval", tmp_path / "run", corpus)[1]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no /dev/fd")
@pytest.mark.parametrize("family", ["gpt2", "roberta", "transformer"])
def test_eval_reads_a_pipe_once(family, train, corpus, run, tmp_path):
    """`zcat text.gz | tinygrad-llm eval DIR /dev/stdin`, of a checkpoint that no run speaks for."""
    lines = "".join(f"{i} apples\t{i} pommes\n" for i in range(60)) if family == "transformer" else TEXT[:2000]
    corpus.write_text(lines)
    assert train(corpus, "--model", family)[0] == 0
    end, start = os.pipe()
    os.write(start, lines.encode())
    os.close(start)
    code, out, err = run("eval", tmp_path / "run" / "best", f"/dev/fd/{end}", "--json")
    os.close(end)
    assert code == 0, err
    assert out == run("eval", tmp_path / "run" / "best", corpus, "--json")[1]


@pytest.mark.parametrize(("family", "part"), [("bert", "masked"), ("electra", "generator")])
def test_the_perplexity_of_a_loss_of_two_parts_is_that_of_its_tokens(family, part, train, corpus, run, tmp_path):
    train(corpus, "--model", family, "--context", 32)
    result = json.loads(run("eval", tmp_path / "run", corpus, "--json")[1])
    assert result["perplexity"] == pytest.approx(np.exp(result[part])) and result["loss"] > result[part]
    assert 0 < result["tokens"] < 0.2 * len(TEXT)  # the masked ones


@pytest.mark.parametrize("family", ["gpt2", "llama"])  # the one has 16 positions, the other was made for 16
def test_eval_predicts_each_token_once(family, train, corpus, run, tmp_path):
    """The same number as window by window on the model itself."""
    train(corpus, "--model", family)

    part = tmp_path / "part.txt"
    part.write_text(TEXT[:41])
    model, ids = models.load(tmp_path / "run").eval(), text.load(tmp_path / "run").encode(TEXT[:41])
    total = 0.0
    for start in range(0, 40, 16):
        window = ids[start : start + 17]
        logs = kernels.log_softmax_forward(model(input_ids=window[None, :-1]).logits.data[0].astype(np.float64))
        total -= np.take_along_axis(logs, window[1:, None], 1).sum()
    result = json.loads(run("eval", tmp_path / "run", part, "--json")[1])
    assert result["loss"] == pytest.approx(total / 40, rel=1e-5) and result["tokens"] == 40


def test_eval_reads_a_text_within_the_tokens_that_the_tokenizer_puts_around_it(run, tmp_path):
    tk = pytest.importorskip("tokenizers")
    tokenizer = text.train("bpe", TEXT, 300, style="bart")
    bos = tokenizer.special["bos"]
    tokenizer.inner.post_processor = tk.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    model = models.create("llama-7b", vocab_size=tokenizer.vocab_size, hidden_size=8, max_position_embeddings=8, num_hidden_layers=1,
                          num_attention_heads=1, num_key_value_heads=1, intermediate_size=8)  # fmt: skip
    model.save(tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    part = tmp_path / "part.txt"
    part.write_text("the quick")
    ids = np.array([bos, *tokenizer.encode("the quick")])
    logs = kernels.log_softmax_forward(model(input_ids=ids[None, :-1]).logits.numpy()[0].astype(np.float64))
    loss = -np.take_along_axis(logs, ids[1:, None], 1).mean()
    result = json.loads(run("eval", tmp_path / "model", part, "--json")[1])
    assert result["loss"] == pytest.approx(loss, rel=1e-5) and result["tokens"] == len(ids) - 1
    assert result["loss_per_char"] == pytest.approx(result["loss"] * result["tokens"] / len("the quick"))
    code, _, err = run("inspect", tmp_path / "model", "--text", "the quick", "--out", tmp_path / "page.html")
    assert code == 0, err
    assert page_data(tmp_path / "page.html")["tokens"] == ["<s>", "the", " quick"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no /dev/fd")
@pytest.mark.parametrize("family", ["bart", "t5"])
def test_an_encoder_decoder_without_its_run(family, train, corpus, run, tmp_path):
    """T5's run has sentinels for its own context, far fewer than for the 512 positions of its kind."""
    assert train(corpus, "--model", family)[0] == 0
    code, out, err = run("eval", tmp_path / "run" / "best", corpus, "--json")
    assert code == 0, err
    assert np.isfinite(json.loads(out)["loss"])
    end, start = os.pipe()
    os.close(start)
    code, _, err = run("eval", tmp_path / "run" / "best", f"/dev/fd/{end}")
    os.close(end)
    assert code == 1 and "a pipe is read only once; say what it holds: --objective translation" in short(err)


def test_a_discriminator_alone(train, corpus, run, tmp_path):
    assert train(corpus, "--model", "electra")[0] == 0
    models.load(tmp_path / "run").discriminator.save(tmp_path / "half")
    text.load(tmp_path / "run").save(tmp_path / "half")
    code, _, err = run("eval", tmp_path / "half", corpus)
    assert code == 1 and "scored with its generator, as ElectraForJointPreTraining" in short(err)


def test_eval_refuses_what_the_head_cannot_do(train, corpus, run, tmp_path):
    train(corpus, "--model", "bert", "--context", 32)
    for objective in ("masked", "causal"):
        code, _, err = run("eval", tmp_path / "run", corpus, "--objective", objective)
        assert code == 2 and "BertForPreTraining has no head for it; it can do masked+next_sentence" in short(err)
    code, _, err = run("eval", tmp_path / "run", corpus, "--objective", "foo")
    assert code == 2 and "--objective: expected one of" in short(err)
    train(corpus, "--force")
    code, _, err = run("eval", tmp_path / "run", corpus, "--target", corpus)
    assert code == 2 and "--target is for translation" in short(err)


@pytest.mark.parametrize("command", [["generate"], ["eval"]])
def test_directories_without_a_model(run, corpus, tmp_path, command):
    more = [corpus] if command == ["eval"] else []
    for place, message in ((tmp_path / "nothing", "no such directory"), (tmp_path, "no model here"), (corpus, "got a file")):
        code, _, err = run(*command, place, *more)
        assert code == 1 and message in short(err)


def test_prompts(train, corpus, run, tmp_path):
    train(corpus)
    code, _, err = run("generate", tmp_path / "run", "--prompt", "the é")
    assert code == 1 and "not in this model's vocabulary" in short(err)
    code, _, err = run("generate", tmp_path / "run", "--prompt", "the quick brown fox jumps")
    assert code == 1 and "sees 16 at once" in short(err)
    for words in (["--tokens", 0], ["--temperature", -1], ["--top-p", 2], ["--top-k", 0], ["--lookup", 0],
                  ["--lookup", 3, "--beams", 2], ["--lookup", 3, "--temperature", 0.8], ["--beams", 0], ["--temperature", "nan"],
                  ["--length-penalty", "nan", "--beams", 2], ["--length-penalty", 2], ["--stop", ""], ["--seed", -1],
                  ["--repetition-penalty", 0], ["--top-k", 3, "--temperature", 0], ["--top-p", 0], ["--min-p", 0], ["--min-p", 1.5],
                  ["--temperature", "inf"], ["--repetition-penalty", "inf"]):  # fmt: skip
        code, out, err = run("generate", tmp_path / "run", *words)
        assert code == 2 and out == "" and words[0] in short(err)


@pytest.mark.parametrize("words", [
    ["--top-p", "1"], ["--min-p", "1"], ["--temperature", "0"], ["--top-k", "1"], ["--lookup", "1"], ["--tokens", "1"], ["--beams", "1"],
    ["--seed", "0"], ["--length-penalty", "-1"], ["--lookup", "2", "--temperature", "0"],
])  # fmt: skip
def test_options_may_lie_at_the_ends_of_their_ranges(words):
    parser, _ = build_parser()
    check(parser.parse_args(["generate", "somewhere", *words]))


def test_a_checkpoint_of_another_family(train, corpus, run, tmp_path):
    train(corpus, "--model", "bert", "--context", 32)
    code, _, err = run("generate", tmp_path / "run", "--prompt", "the quick")
    assert code == 2 and "put [MASK] into the text" in short(err)
    for words in (["--lookup", 3], ["--beams", 2], ["--stop", "a"], ["--top-k", 3]):
        code, _, err = run("generate", tmp_path / "run", "--prompt", "the [MASK]uick", *words)
        assert code == 2 and words[0] in short(err)
    code, _, err = run("generate", tmp_path / "run", "--prompt", "[MASK]" + "he quick" * 5)
    assert code == 1 and "--prompt has 43 tokens, the model sees 32 at once" in short(err)
    code, _, err = run("train", "--resume", tmp_path / "run", "--model", "gpt2")
    assert code == 2 and "was made with bert" in short(err)
    code, _, err = run("train", "--resume", tmp_path / "nothing")
    assert code == 1 and "no run to resume" in short(err)


@pytest.mark.parametrize("kind", [None, "multi_label_classification", "regression"])
def test_a_classifier_names_the_classes_of_a_text(kind, train, run, tmp_path):
    """Probabilities that add up to 1, one of its own for each class, or the values themselves."""
    lines = tmp_path / "lines.tsv"
    lines.write_text("ham\thello there\nspam\tbuy it now\n" * 30)
    words = ["--model", "bert", "--objective", "classification", "--steps", 40, "--lr", 0.01]
    assert train(lines, *words)[0] == 0
    edit(tmp_path / "run", problem_type=kind)
    code, out, err = run("generate", tmp_path / "run", "--prompt", "hello there")
    assert code == 0, err
    (first, top), (second, other) = (part.split(" ") for part in out.strip().split("  "))
    values = [float(v.removesuffix("%")) for v in (top, other)]
    assert (first, second) == ("ham", "spam") and values[0] > values[1] and ("%" in out) == (kind != "regression")
    assert (abs(sum(values) - 100) < 0.11) == (kind is None)
    assert [part.split(" ")[0] for part in run("generate", tmp_path / "run", "--prompt", "buy it now")[1].split("  ")] == ["spam", "ham"]
    for words, message in [([], "--prompt: a classifier needs a text"), (["--prompt", "x", "--beams", 2], "--beams: this model classifies"),
                           (["--prompt", "hello " * 9], "--prompt has 56 tokens, the model sees 16 at once")]:  # fmt: skip
        code, out, err = run("generate", tmp_path / "run", *words)
        assert code in (1, 2) and message in short(err) and out == ""


def test_a_file_need_not_have_all_the_classes(train, run, tmp_path):
    """They keep the numbers that the model was trained with, by the run's memory or by the config.json of the model alone."""
    rows = {"ham": "ham\thello there\n" * 20, "spam": "spam\tbuy it now\n" * 20}
    for name, content in (rows | {"both": rows["ham"] + rows["spam"]}).items():
        (tmp_path / name).write_text(content)
    assert train(tmp_path / "both", "--model", "bert", "--objective", "classification", "--steps", 5, "--lr", 0.01)[0] == 0
    (tmp_path / "alone").mkdir()
    for name in ("config.json", "model.safetensors", "vocabulary.json"):
        (tmp_path / "alone" / name).write_bytes((tmp_path / "run" / name).read_bytes())
    for model in ("run", "alone"):
        found = [json.loads(run("eval", tmp_path / model, tmp_path / name, "--json")[1]) for name in ("both", "ham", "spam")]
        for value in ("loss", "accuracy"):
            both, *apart = (result[value] for result in found)
            assert both == pytest.approx(sum(apart) / 2, rel=1e-4), (model, value)


def test_a_model_without_words_or_classes_has_nothing_to_say(train, run, corpus, tmp_path):
    assert train(corpus, "--model", "bert", "--objective", "masked", "--steps", 1, "--eval-every", 0)[0] == 0
    models.load(tmp_path / "run", architecture="BertForQuestionAnswering").save(tmp_path / "run")
    code, out, err = run("generate", tmp_path / "run", "--prompt", "hello")
    assert code == 2 and out == "" and "BertForQuestionAnswering has no head for words" in short(err)
