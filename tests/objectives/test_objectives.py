"""Each objective keeps its paper's proportions, loses nothing it should keep, and repeats with its seed."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_llm as tg
from tinygrad_llm import objectives
from tinygrad_llm.data import IGNORE
from tinygrad_llm.objectives import pairs as pairs_module

MASK, PAD, CLS, SEP = 4, 0, 2, 3
SPECIAL = [PAD, 1, CLS, SEP, MASK]
V = 200
seeds = st.integers(0, 2**32 - 1)
rng_of = np.random.default_rng


def words(n, seed=0):
    """(n,) ids of ordinary tokens."""
    return rng_of(seed).integers(10, V, n)


def test_causal_labels_are_the_inputs():
    ids = words(12).reshape(2, 6)
    mask = np.array([[1] * 6, [1] * 4 + [0] * 2])
    batch = objectives.causal(ids, mask)
    assert np.array_equal(batch["input_ids"], ids)
    assert np.array_equal(batch["labels"] == IGNORE, mask == 0)
    assert np.array_equal(objectives.causal(ids)["labels"], ids)
    with pytest.raises(ValueError, match="length at least 2"):
        objectives.causal(ids[:, :1])


def test_masked_has_berts_proportions():
    ids = words(40_000).reshape(200, 200)
    batch = objectives.masked(ids, mask_id=MASK, vocab_size=V, special=SPECIAL, rng=rng_of(1))
    chosen = batch["labels"] != IGNORE
    assert (chosen.sum(axis=1) == 30).all(), "15% of every row"
    assert np.array_equal(batch["labels"][chosen], ids[chosen])
    assert np.array_equal(batch["input_ids"][~chosen], ids[~chosen])
    new, old = batch["input_ids"][chosen], ids[chosen]
    to_mask, kept = np.mean(new == MASK), np.mean(new == old)
    assert abs(to_mask - 0.8) < 0.02 and abs(kept - 0.1) < 0.02 and abs(1 - to_mask - kept - 0.1) < 0.02
    strangers = new[(new != MASK) & (new != old)]
    assert not np.isin(strangers, SPECIAL).any()
    drawn = chosen & (batch["input_ids"] != MASK) & (batch["input_ids"] != ids)
    assert sum(len(set(row[places].tolist())) for row, places in zip(batch["input_ids"], drawn)) > 0.95 * len(strangers)


@given(seeds, st.integers(1, 40))
def test_masked_leaves_special_and_padding_alone(seed, n):
    ids = np.concatenate([[CLS], words(n, seed), [SEP, PAD, PAD]])[None]
    mask = (ids != PAD).astype(int)
    batch = objectives.masked(ids, mask_id=MASK, vocab_size=V, special=SPECIAL, attention_mask=mask, rng=rng_of(seed))
    chosen = batch["labels"][0] != IGNORE
    assert chosen.sum() == max(1, int(n * 0.15 + 0.5))
    assert not chosen[0] and not chosen[-3:].any()
    again = objectives.masked(ids, mask_id=MASK, vocab_size=V, special=SPECIAL, attention_mask=mask, rng=rng_of(seed))
    assert all(np.array_equal(batch[k], again[k]) for k in batch)


@given(seeds)
def test_whole_words_are_masked_together(seed):
    ids = words(60, seed)[None]
    starts = rng_of(seed).random((1, 60)) < 0.5
    starts[0, 0] = True
    batch = objectives.masked(ids, mask_id=MASK, vocab_size=V, special=SPECIAL, word_starts=starts, rng=rng_of(seed))
    chosen = batch["labels"][0] != IGNORE
    for word in np.split(chosen, np.flatnonzero(starts[0])[1:]):
        assert word.all() or not word.any()
    longest = np.diff([*np.flatnonzero(starts[0]), 60]).max()
    assert 0 < chosen.sum() <= max(9, longest)


def test_static_masks_repeat_and_dynamic_ones_do_not():
    ids = words(120).reshape(3, 40)
    make = lambda **how: objectives.masked(ids, mask_id=MASK, vocab_size=V, special=SPECIAL, **how)["input_ids"]
    first = make(static=[5, 6, 7])
    assert np.array_equal(first, make(static=[5, 6, 7]))
    assert not np.array_equal(first, make(static=[15, 16, 17]))
    rng = rng_of(0)
    assert not np.array_equal(make(rng=rng), make(rng=rng))
    with pytest.raises(ValueError, match="sum to 1"):
        make(split=(0.5, 0.1, 0.1))
    with pytest.raises(ValueError, match="expected three fractions"):
        make(split=(0.5, 0.5))


def documents(count=30, sentences=12):
    """Every token says where it stands: 1000 · document + 10 · sentence + place."""
    return [[1000 * (d + 1) + 10 * s + np.arange(5) for s in range(sentences)] for d in range(count)]


def halves(row, types):
    """The two segments of [CLS] a [SEP] b [SEP]."""
    a, b = row[types == 0], row[types == 1]
    b = b[: np.flatnonzero(b == SEP)[0] + 1]
    a = a[: np.flatnonzero(a == SEP)[0] + 1]
    assert a[0] == CLS and a[-1] == SEP and b[-1] == SEP
    return a[1:-1], b[:-1]


def pairs_of(objective, seed, batch=400, max_length=40):
    out = objective(documents(), batch, max_length=max_length, cls_id=CLS, sep_id=SEP, pad_id=PAD, rng=rng_of(seed))
    assert out["input_ids"].shape[1] <= max_length
    assert np.array_equal(out["attention_mask"] == 0, out["input_ids"] == PAD)
    return out, [halves(r, t) for r, t in zip(out["input_ids"], out["token_type_ids"])]


@pytest.mark.parametrize("objective", [objectives.next_sentence, objectives.sentence_order])
def test_all_pairs_read_every_sentence_once(objective):
    """Sentences of five tokens, in pairs of 20 at most; none is left alone."""
    options = {"max_length": 23, "cls_id": 1, "sep_id": 2, "pad_id": 0, "rng": np.random.default_rng(0)}
    for sentences, pairs in ((2, 1), (4, 1), (5, 1), (6, 2), (12, 3)):
        out = objective(documents(6, sentences), None, **options)
        assert len(out["input_ids"]) == 6 * pairs
        if objective is objectives.sentence_order and sentences != 5:  # of five sentences together one is cut off
            seen = out["input_ids"][out["input_ids"] > 2]
            assert sorted(seen) == sorted(np.concatenate([s for d in documents(6, sentences) for s in d]))


def test_next_sentence_is_next_half_of_the_time():
    out, pairs = pairs_of(objectives.next_sentence, 0)
    label = out["next_sentence_label"]
    assert abs(label.mean() - 0.5) < 0.08
    for (a, b), strange in zip(pairs, label):
        assert len(a) and len(b)
        assert (a[0] // 1000 != b[0] // 1000) == bool(strange)
        if not strange:
            assert a[-1] < b[0]


def test_sentence_order_is_swapped_half_of_the_time():
    out, pairs = pairs_of(objectives.sentence_order, 0)
    label = out["sentence_order_label"]
    assert abs(label.mean() - 0.5) < 0.08
    for (a, b), swapped in zip(pairs, label):
        assert a[0] // 1000 == b[0] // 1000
        assert (a[0] > b[0]) == bool(swapped)


def test_a_stranger_may_come_from_any_other_document():
    options = dict(max_length=40, cls_id=CLS, sep_id=SEP, pad_id=PAD, rng=rng_of(0))
    out = objectives.next_sentence(documents(4), 300, **options)
    pairs = [halves(r, t) for r, t in zip(out["input_ids"], out["token_type_ids"])]
    met = {(int(a[0]) // 1000, int(b[0]) // 1000) for a, b in pairs}
    assert len(met) == 16 and len({a for a, _ in met}) == 4


@given(seeds, st.integers(1, 12), st.integers(1, 12), st.integers(2, 24))
def test_the_longer_of_a_pair_is_cut_at_its_ends(seed, n, m, room):
    first, second = pairs_module.truncate_pair(np.arange(n), np.arange(m), room, rng_of(seed))
    assert len(first) + len(second) == min(n + m, room)
    for part, length, other in ((first, n, m), (second, m, n)):
        assert (np.diff(part) == 1).all()
        assert len(part) >= min(length, room // 2)
        if length <= room - other or length <= room // 2:
            assert len(part) == length


def test_a_pair_is_cut_in_front_and_at_the_end():
    cut = [pairs_module.truncate_pair(np.arange(n), np.arange(9 - n), 6, rng_of(s)) for s in range(60) for n in (1, 8)]
    longer = [max(pair, key=len) for pair in cut]
    assert {int(part[0]) for part in longer} == {int(7 - part[-1]) for part in longer} == {0, 1, 2, 3}


def test_the_shortest_pair_is_one_token_each():
    out, pairs = pairs_of(objectives.sentence_order, 0, max_length=5)
    assert {(len(a), len(b)) for a, b in pairs} == {(1, 1)}


def test_pairs_refuse():
    options = dict(max_length=40, cls_id=CLS, sep_id=SEP, pad_id=PAD)
    with pytest.raises(ValueError, match="at least 2"):
        objectives.next_sentence(documents(1), 2, **options)
    with pytest.raises(ValueError, match="two sentences"):
        objectives.sentence_order(documents(3, 1), 2, **options)


def test_replaced_token_labels_what_changed():
    ids = words(6000).reshape(20, 300)
    attention = np.ones_like(ids)
    attention[:, -20:] = 0
    masked = objectives.masked(ids, mask_id=MASK, vocab_size=V, split=(1, 0, 0), attention_mask=attention, rng=rng_of(0))
    logits = np.zeros((*ids.shape, V), dtype=np.float32)
    np.put_along_axis(logits, ids[..., None], np.log(V - 1), axis=-1)  # right half of the time
    batch = objectives.replaced_token(ids, masked["labels"], logits, attention_mask=attention, rng=rng_of(0))
    chosen, real = masked["labels"] != IGNORE, attention == 1
    assert np.array_equal(batch["input_ids"][~chosen], ids[~chosen])
    assert np.array_equal(batch["labels"][real], (batch["input_ids"] != ids)[real].astype(int))
    assert (batch["labels"][~real] == IGNORE).all()
    assert abs(batch["labels"][chosen].mean() - 0.5) < 0.06
    with pytest.raises(ValueError, match="generator_logits"):
        objectives.replaced_token(ids, masked["labels"], logits[:1])


@given(seeds, st.integers(1, 60))
def test_text_infilling_masks_spans(seed, n):
    """What is left is the original in order; 30% of it is gone; no two masks touch."""
    ids = 10 + np.arange(n)
    noisy = objectives.text_infilling(ids, mask_id=MASK, rng=rng_of(seed))
    kept = noisy[noisy != MASK]
    assert (np.diff(kept) > 0).all() and set(kept) <= set(ids)
    assert 0 <= n - len(kept) <= max(round(0.3 * n), 0)
    assert not ((noisy[1:] == MASK) & (noisy[:-1] == MASK)).any()
    assert np.array_equal(noisy, objectives.text_infilling(ids, mask_id=MASK, rng=rng_of(seed)))


def test_text_infilling_has_barts_proportions():
    ids, rng = 10 + np.arange(500), rng_of(0)
    lost, spans, empty = [], [], 0
    for _ in range(100):
        noisy = objectives.text_infilling(ids, mask_id=MASK, rng=rng)
        lost.append(500 - (noisy != MASK).sum())
        around = np.concatenate([[9], noisy, [510]])
        places = np.flatnonzero(around == MASK)
        lengths = around[places + 1] - around[places - 1] - 1
        spans += lengths.tolist()
        empty += int((lengths == 0).sum())
    assert set(lost) == {150}
    assert abs(np.mean(spans) - 3.0) < 0.15 and abs(np.var(spans) - 3.0) < 0.4, "Poisson(3)"
    assert abs(empty / len(spans) - np.exp(-3)) < 0.015, "a span of length 0 is a mask put in"


@given(seeds, st.integers(0, 40))
def test_barts_other_noises(seed, n):
    ids = 10 + np.arange(n)
    ids[4::5] = 5  # a full stop
    rng = rng_of(seed)
    shuffled = objectives.permute_sentences(ids, ends=[5], rng=rng)
    split = lambda x: sorted(tuple(s) for s in np.split(x, np.flatnonzero(x == 5) + 1) if len(s))
    if n % 5 == 0:
        assert split(shuffled) == split(ids)
    assert sorted(shuffled) == sorted(ids)
    deleted = objectives.delete_tokens(ids, rng=rng)
    assert len(deleted) == n - round(0.15 * n)
    masked = objectives.mask_tokens(ids, mask_id=MASK, rng=rng)
    assert (masked == MASK).sum() == round(0.15 * n) and np.array_equal(masked[masked != MASK], ids[masked != MASK])
    turned = objectives.rotate(ids, rng=rng)
    assert any(np.array_equal(turned, np.roll(ids, k)) for k in range(max(n, 1)))


def test_sentences_do_change_places():
    ids = 10 + np.arange(50)
    ids[4::5] = 5
    orders = {tuple(objectives.permute_sentences(ids, ends=[5], rng=rng_of(s))) for s in range(20)}
    assert len(orders) > 15


def unspan(source, target, sentinels):
    """The text back from T5's input and target."""
    spans, current = {}, None
    for t in target:
        if t in sentinels:
            current = spans.setdefault(t, [])
        else:
            current.append(t)
    return [x for t in source for x in (spans[t] if t in sentinels else [t])]


@given(seeds, st.integers(2, 80), st.floats(0.05, 0.6), st.floats(1.0, 5.0))
def test_span_corruption_can_be_undone(seed, n, density, mean):
    ids, sentinels = 1000 + np.arange(n), list(range(100))
    source, target = objectives.span_corruption(ids, sentinels=sentinels, rng=rng_of(seed), density=density, mean_span=mean)
    assert unspan(source.tolist(), target.tolist(), sentinels) == ids.tolist()
    used = [t for t in source if t < 100]
    assert used == sentinels[: len(used)], "in order"
    assert [t for t in target if t < 100] == sentinels[: len(used) + 1], "and one more ends the target"
    assert not any(a < 100 and b < 100 for a, b in zip(source, source[1:])), "spans do not touch"


def test_span_corruption_has_t5s_proportions():
    ids, sentinels = 1000 + np.arange(512), list(range(100))
    lengths = set()
    for seed in range(50):
        source, target = objectives.span_corruption(ids, sentinels=sentinels, eos_id=1, rng=rng_of(seed))
        spans = (source < 100).sum() - 1
        assert (target >= 1000).sum() == 77 and spans == 26, "15% of 512 tokens in spans of 3"
        assert source[-1] == 1 and target[-1] == 1
        lengths.add((len(source), len(target)))
    assert len(lengths) == 1, "lengths are predictable, as in the paper"
    with pytest.raises(ValueError, match="more sentinels"):
        objectives.span_corruption(ids, sentinels=sentinels[:26])


def test_translation_pads_and_ends():
    batch = objectives.translation([[5, 6, 7], [8]], [[9], [10, 11]], pad_id=0, eos_id=1)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 1], [8, 1, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[9, 1, IGNORE], [10, 11, 1]]
    cut = objectives.translation([[5, 6, 7]], [[9, 9, 9]], pad_id=0, eos_id=1, max_length=3)
    assert cut["input_ids"].tolist() == [[5, 6, 1]] and cut["labels"].tolist() == [[9, 9, 1]]
    with pytest.raises(ValueError, match="as many targets"):
        objectives.translation([[1]], [], pad_id=0)


def test_classification_frames_the_text():
    batch = objectives.classification([[5, 6], [7, 8, 9, 9]], [1, 0], pad_id=PAD, cls_id=CLS, sep_id=SEP, max_length=5)
    assert batch["input_ids"].tolist() == [[CLS, 5, 6, SEP, PAD], [CLS, 7, 8, 9, SEP]]
    assert batch["labels"].tolist() == [1, 0]
    with pytest.raises(ValueError, match="one label per text"):
        objectives.classification([[1]], [], pad_id=0)


@pytest.mark.parametrize(
    "draw",
    [
        lambda ids: objectives.masked(ids[None], mask_id=MASK, vocab_size=V)["input_ids"],
        lambda ids: objectives.span_corruption(ids, sentinels=range(V, V + 20))[0],
        lambda ids: objectives.text_infilling(ids, mask_id=MASK),
        lambda ids: objectives.next_sentence(documents(), 4, max_length=40, cls_id=CLS, sep_id=SEP, pad_id=PAD)["input_ids"],
        lambda ids: objectives.sentence_order(documents(), 4, max_length=40, cls_id=CLS, sep_id=SEP, pad_id=PAD)["input_ids"],
        lambda ids: objectives.replaced_token(ids[None], ids[None], np.zeros((1, len(ids), V)))["input_ids"],
    ],
)
def test_without_rng_manual_seed_decides(draw):
    ids = words(60)
    tg.manual_seed(5)
    first, other = draw(ids), draw(ids)
    assert not np.array_equal(first, other)
    tg.manual_seed(5)
    assert np.array_equal(first, draw(ids))


DOCUMENTS = [[words(4), words(5)], [words(3), words(6)]]
FRAME = {"max_length": 12, "cls_id": 1, "sep_id": 2, "pad_id": 0}


@pytest.mark.parametrize("call", [
    lambda x: objectives.mask_tokens(words(9), mask_id=x), lambda x: objectives.text_infilling(words(9), mask_id=x),
    lambda x: objectives.span_corruption(words(9), sentinels=range(9), eos_id=x),
    lambda x: objectives.masked(words(9)[None], mask_id=x, vocab_size=V),
    lambda x: objectives.masked(words(9)[None], mask_id=MASK, vocab_size=x),
    lambda x: objectives.translation([[5]], [[6, 7]], pad_id=x), lambda x: objectives.translation([[5]], [[6]], pad_id=0, eos_id=x),
    lambda x: objectives.classification([[5]], [0], pad_id=0, cls_id=x),
    lambda x: objectives.classification([[5]], [0], pad_id=0, sep_id=x),
    lambda x: objectives.classification([[5]], [0], pad_id=0, max_length=x),
    lambda x: objectives.next_sentence(DOCUMENTS, 2, **FRAME | {"cls_id": x}),
    lambda x: objectives.next_sentence(DOCUMENTS, 2, **FRAME | {"max_length": x}),
    lambda x: objectives.sentence_order(DOCUMENTS, 2, **FRAME | {"sep_id": x}),
    lambda x: objectives.sentence_order(DOCUMENTS, x, **FRAME),
])  # fmt: skip
@pytest.mark.parametrize("number", [1.5, float("nan"), "3"])
def test_ids_and_sizes_are_whole_numbers(call, number):
    with pytest.raises(TypeError, match="[a-z_]+: expected a whole number, got"):
        call(number)


def test_ids_within_lists_are_whole_numbers_too():
    for call in (lambda ids: objectives.span_corruption(words(9), sentinels=ids),
                 lambda ids: objectives.masked(words(9)[None], mask_id=MASK, vocab_size=V, special=ids),
                 lambda ids: objectives.permute_sentences(words(9), ends=ids)):  # fmt: skip
        with pytest.raises(TypeError, match="expected token ids, which are integers"):
            call([1.5, 2.5, 3.5, 4.5])
    with pytest.raises(TypeError, match="expected token ids"):
        objectives.masked(words(9)[None], mask_id=MASK, vocab_size=V, static=[0.5])


def test_a_split_of_no_number_is_refused():
    with pytest.raises(ValueError, match="split: expected three fractions that sum to 1"):
        objectives.masked(words(9)[None], mask_id=MASK, vocab_size=V, split=(float("nan"), 0.5, 0.5))


def test_the_generators_logits_have_a_vocabulary():
    ids = words(9)[None]
    with pytest.raises(ValueError, match="generator_logits"):
        objectives.replaced_token(ids, ids, np.zeros(ids.shape))
    with pytest.raises(ValueError, match="attention_mask: expected the shape of ids"):
        objectives.replaced_token(ids, ids, np.zeros((1, 9, V)), attention_mask=1)


@pytest.mark.parametrize("share", [-0.2, 1.5, float("nan")])
@pytest.mark.parametrize(("name", "call"), [
    ("ratio", lambda share: objectives.mask_tokens(words(9), mask_id=MASK, ratio=share)),
    ("ratio", lambda share: objectives.delete_tokens(words(9), ratio=share)),
    ("ratio", lambda share: objectives.text_infilling(words(9), mask_id=MASK, ratio=share)),
    ("probability", lambda share: objectives.masked(words(9)[None], mask_id=MASK, vocab_size=V, probability=share)),
    ("density", lambda share: objectives.span_corruption(words(9), sentinels=range(9), density=share)),
])
def test_shares_lie_between_0_and_1(name, call, share):
    with pytest.raises(ValueError, match=f"{name}: expected a share of the tokens, from 0 to 1, got {share}"):
        call(share)


def test_spans_and_lengths_that_hold_nothing():
    for call in (lambda n: objectives.span_corruption(words(9), sentinels=range(9), mean_span=n),
                 lambda n: objectives.text_infilling(words(9), mask_id=MASK, mean_span=n)):  # fmt: skip
        for mean_span in (0, -1.0, float("inf"), float("nan")):
            with pytest.raises(ValueError, match="mean_span: expected a length in tokens, above 0"):
                call(mean_span)
    for length in (0, 1):
        with pytest.raises(ValueError, match=f"max_length: expected more than the 1 special tokens, got {length}"):
            objectives.translation([words(3)], [words(3)], pad_id=PAD, eos_id=1, max_length=length)
    with pytest.raises(ValueError, match="max_length: expected more than the 2 special tokens, got 2"):
        objectives.classification([words(3)], [0], pad_id=PAD, cls_id=CLS, sep_id=SEP, max_length=2)
    assert objectives.classification([words(3)], [0], pad_id=PAD, cls_id=CLS, sep_id=SEP, max_length=3)["input_ids"].shape == (1, 3)


def test_labels_of_a_regression_keep_their_fractions():
    frame = lambda labels: objectives.classification([[7], [8]], labels, pad_id=0)["labels"]  # noqa: E731
    assert frame([0.5, 1.7]).tolist() == [0.5, 1.7]
    assert frame([[0.0, 1.0], [1.0, 1.0]]).dtype.kind == "f"  # one per class
    assert frame([0, 1]).dtype == frame([False, True]).dtype == np.int64


@pytest.mark.parametrize("call", [
    lambda x: objectives.causal([x]), lambda x: objectives.masked([x], mask_id=4, vocab_size=9),
    lambda x: objectives.text_infilling(x, mask_id=4), lambda x: objectives.span_corruption(x, sentinels=[98, 99]),
    lambda x: objectives.translation([x], [[1]], pad_id=0), lambda x: objectives.translation([[1]], [x], pad_id=0),
    lambda x: objectives.classification([x], [0], pad_id=0), lambda x: objectives.replaced_token([x], [[-100] * 3], np.zeros((1, 3, 9))),
])  # fmt: skip
def test_ids_with_a_fraction_are_refused(call):
    with pytest.raises(TypeError, match="expected token ids, which are integers, got float64"):
        call([1.0, 2.5, 3.0])


def test_masked_names_what_does_not_fit_its_ids():
    ids = np.ones((2, 3), np.int64)
    for name, value, shape in (("attention_mask", np.ones(3), "(2, 3)"), ("word_starts", np.ones((2, 2)), "(2, 3)"), ("static", [1], "(2,)")):
        with pytest.raises(ValueError, match=f"{name}: expected shape {re.escape(shape)}"):
            objectives.masked(ids, mask_id=4, vocab_size=9, **{name: value})
    with pytest.raises(ValueError, match=r"ids: expected \(batch, length\), got shape \(3,\)"):
        objectives.masked(ids[0], mask_id=4, vocab_size=9)


def test_no_stranger_comes_from_an_empty_document():
    documents = [[], [[11, 12], [13]], [], [[21], [22, 23]], []]
    options = dict(max_length=12, cls_id=1, sep_id=2, pad_id=0, rng=np.random.default_rng(0))
    for batch in (64, None):
        found = objectives.next_sentence(documents, batch, **options)
        for ids, label in zip(found["input_ids"], found["next_sentence_label"]):
            assert len({x // 10 for x in ids.tolist() if x > 9}) == 1 + label  # a stranger has another document's tens
    with pytest.raises(ValueError, match="expected at least 2 with sentences, to draw a stranger from; got 1"):
        objectives.next_sentence([documents[1], []], 4, **options)


@pytest.mark.parametrize("ids", [[[11, 12, 13], [14, 15, 16]], [11], []])
def test_spans_are_cut_out_of_one_sequence_of_two_tokens_or_more(ids):
    with pytest.raises(ValueError, match=r"expected one sequence \(T,\) of at least 2 tokens"):
        objectives.span_corruption(np.array(ids, int), sentinels=[1, 2, 3, 4])
