"""Padding, packing, token files, and sources that resume where they stopped."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_llm import data

sequences = st.lists(st.lists(st.integers(0, 99), max_size=9), min_size=1, max_size=6)


@given(sequences, st.sampled_from(["left", "right"]), st.sampled_from([1, 4]))
def test_pad_keeps_every_token_in_place(rows, side, multiple):
    ids, mask = data.pad(rows, 100, side=side, multiple=multiple)
    assert ids.shape == mask.shape and ids.shape[1] % multiple == 0 <= ids.shape[1] - max(map(len, rows)) < multiple
    for row, i, m in zip(rows, ids, mask):
        assert i[m == 1].tolist() == row and (i[m == 0] == 100).all()
        if row and side == "left":
            assert m[-1] == 1
        if row and side == "right":
            assert m[0] == 1
    labels = data.pad_labels(rows, side=side, multiple=multiple)
    assert np.array_equal(labels, np.where(mask == 1, ids, -100))


def test_pad_fills_with_zeros_unless_told_otherwise():
    ids, mask = data.pad([[5], [6, 7]])
    assert ids.tolist() == [[5, 0], [6, 7]] and mask.tolist() == [[1, 0], [1, 1]]


def test_pad_refuses():
    with pytest.raises(ValueError, match="side"):
        data.pad([[1]], side="top")
    with pytest.raises(ValueError, match="3 tokens, more than 2"):
        data.pad([[1, 2, 3]], length=2)
    with pytest.raises(ValueError, match="at least one"):
        data.pad([])
    with pytest.raises(ValueError, match="multiple: expected at least 1, got 0"):
        data.pad([[1]], multiple=0)


@given(sequences, st.integers(1, 5))
def test_pack_is_the_documents_end_to_end(documents, length):
    with pytest.raises(ValueError, match="0 tokens in all"):
        data.pack([], length)
    flat = [t for d in documents for t in [*d, 7]]
    if len(flat) < length:
        with pytest.raises(ValueError, match="fewer than one block"):
            data.pack(documents, length, eos_id=7)
        return
    blocks = data.pack(documents, length, eos_id=7)
    assert blocks.shape == (len(flat) // length, length)
    assert blocks.reshape(-1).tolist() == flat[: blocks.size]


@given(st.integers(2, 400), st.floats(0.05, 0.9))
def test_splits_lose_nothing(n, fraction):
    ids = np.arange(n)
    train, held = data.split_ids(ids, fraction)
    assert np.array_equal(np.concatenate([train, held]), ids) and abs(len(held) - n * fraction) <= 1
    train, held = data.split_items(list(range(n)), fraction, seed=3)
    assert sorted(train + held) == list(range(n)) and train and held
    assert len(held) == min(max(1, round(n * fraction)), n - 1)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_split_leaves_something_on_both_sides(fraction):
    for split in (data.split_ids, data.split_items):
        with pytest.raises(ValueError, match="fraction: expected a number between 0 and 1"):
            split(list(range(10)), fraction)
    with pytest.raises(ValueError, match="at least 2 examples to split, got 1"):
        data.split_items([1])
    assert [len(part) for part in data.split_ids(range(40))] == [len(part) for part in data.split_items(list(range(40)))] == [36, 4]


def test_token_file(tmp_path):
    path = tmp_path / "tokens.bin"
    for vocab, width in ((300, 2), (1 << 16, 2), ((1 << 16) + 1, 4), (70_000, 4)):
        pieces = [np.arange(10), np.array([vocab - 1]), np.arange(5)]
        assert data.write_tokens(path, pieces, vocab) == 16
        tokens = data.TokenFile(path)
        assert len(tokens) == 16 and tokens.array.dtype.itemsize == width and tokens[:].dtype == np.int64
        assert tokens[:].tolist() == np.concatenate(pieces).tolist()
        assert data.TokenFile(path, 10, 12)[:].tolist() == [vocab - 1, 0]
    with pytest.raises(ValueError, match=r"\[0, 10\)"):
        data.write_tokens(path, [np.array([10])], 10)
    assert data.TokenFile(path)[10] == 69_999, "a failed write leaves the file as it was"
    whole = path.read_bytes()
    for damaged in (whole[:-4], whole[:-1], whole + whole[-4:]):  # cut at a token too
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"damaged, expected {len(whole)} bytes for its 16 tokens, got {len(damaged)}"):
            data.TokenFile(path)
    for other in (b"something else, long enough", b"TGLTOKS1" + whole[8:], whole[:8] + bytes(8) + whole[16:], whole[:20]):
        path.write_bytes(other)
        with pytest.raises(ValueError, match="not a token file"):
            data.TokenFile(path)


def test_a_token_file_is_only_read(tmp_path):
    path = tmp_path / "tokens.bin"
    data.write_tokens(path, [np.arange(5)], 10)
    path.chmod(0o444)
    tokens = data.TokenFile(path)
    with pytest.raises(ValueError, match="read-only"):
        tokens.array[0] = 7
    tokens[:][0] = 7  # a slice is a copy
    assert tokens[:].tolist() == [0, 1, 2, 3, 4]


def test_windows_from_memory_and_disk_agree(tmp_path):
    ids = np.random.default_rng(0).integers(0, 50, 500)
    data.write_tokens(tmp_path / "t", [ids], 50)
    a, b = data.Windows(ids, 9, seed=4), data.Windows(data.TokenFile(tmp_path / "t"), 9, seed=4)
    for _ in range(3):
        assert np.array_equal(a.draw(5), b.draw(5))
    assert len({tuple(w) for w in a.draw(400)}) > 200
    with pytest.raises(ValueError, match="fewer than one window"):
        data.Windows(ids[:5], 9)


@given(st.integers(1, 20), st.integers(1, 7), st.integers(0, 6), st.integers(1, 6))
def test_sources_resume(items, batch, before, after):
    """What comes after a saved position is the same, drawn by the same object or by a new one."""
    makers = [lambda seed: data.Examples(range(items), seed=seed), lambda seed: data.Windows(np.arange(items + 3), 3, seed=seed)]
    for make in makers:
        source = make(1)
        for _ in range(before):
            source.draw(batch)
        state = source.state_dict()
        expected = [np.asarray(source.draw(batch)).tolist() for _ in range(after)]
        other = make(2)
        other.load_state_dict(state)
        assert [np.asarray(other.draw(batch)).tolist() for _ in range(after)] == expected


@given(st.integers(1, 20), st.integers(1, 7))
def test_an_epoch_has_each_example_once(items, batch):
    source = data.Examples(range(items), seed=0)
    seen = [x for _ in range(3 * items) for x in source.draw(batch)]
    for epoch in range(2):
        assert sorted(seen[epoch * items : (epoch + 1) * items]) == list(range(items))
    assert source.epoch == (3 * items * batch - 1) // items


def test_examples_refuse_other_data():
    state = data.Examples(range(4)).state_dict()
    with pytest.raises(ValueError, match="4 examples, this one has 5"):
        data.Examples(range(5)).load_state_dict(state)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(1, 9))
def test_by_length(lengths, batch):
    for rng in (None, np.random.default_rng(0)):
        batches = data.by_length(lengths, batch, rng, pool=3)
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
        assert all(len(b) <= batch for b in batches)
    lengths = np.asarray(lengths)
    order = np.concatenate(data.by_length(lengths, batch))
    assert (np.diff(lengths[order]) >= 0).all(), "without shuffling, neighbours in length share a batch"


def test_of_no_examples_there_are_no_batches():
    assert data.by_length([], 4) == data.by_length([], 4, np.random.default_rng(0)) == []


def test_by_length_pads_little():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 100, 2000)
    padding = lambda batches: sum(lengths[b].max() * len(b) - lengths[b].sum() for b in batches)
    in_order = [np.arange(i, i + 20) for i in range(0, 2000, 20)]
    assert padding(data.by_length(lengths, 20, rng)) < 0.1 * padding(in_order)


@pytest.mark.parametrize("values", [[0.5, 1.0], [float("nan")], [float("inf")], [1e30], [2.0**63], ["a"], [None]], ids=repr)
def test_what_is_no_id_is_refused_and_not_cut_to_one(values, tmp_path):
    for take in (lambda v: data.pad([v]), lambda v: data.pad_labels([v]), lambda v: data.pack([v], 1),
                 lambda v: data.Windows(np.array(v), 1).draw(1 << 6), lambda v: data.write_tokens(tmp_path / "x", [v], 9)):  # fmt: skip
        with pytest.raises(TypeError, match="expected token ids, which are integers"):
            take(values)
    assert not list(tmp_path.iterdir())  # nor is half a file left


def test_whole_numbers_and_small_integers_are_ids():
    assert data.pad([np.concatenate([[], [3, 4]])])[0].tolist() == [[3, 4]]  # floats, as NumPy joins them
    assert data.pad([[2.0**62]])[0].tolist() == [[2**62]]
    assert data.Windows(np.arange(9, dtype=np.uint8), 4).draw(2).dtype == np.int64


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="multiple: expected at least 1, got 0"):
        data.pad([[1]], multiple=0)
    with pytest.raises(ValueError, match="batch: expected at least 1, got 0"):
        data.by_length([3, 1], 0)
    with pytest.raises(ValueError, match="pool: expected at least 1, got 0"):
        data.by_length([3, 1], 2, np.random.default_rng(0), pool=0)


@pytest.mark.parametrize("call", [
    lambda x: data.pad([[1]], x, length=3), lambda x: data.pad([[1]], length=x), lambda x: data.pad([[1]], multiple=x),
    lambda x: data.pack([[1, 2]], 1, x), lambda x: data.pack([[1, 2]], x), lambda x: data.by_length([3, 1], x),
    lambda x: data.Windows(np.arange(9), x), lambda x: data.Windows(np.arange(9), 2).draw(x), lambda x: data.Examples("ab").draw(x),
    lambda x: data.write_tokens("never-written", [[1]], x),
])  # fmt: skip
@pytest.mark.parametrize("number", [1.5, float("nan"), "3", 2j, np.array([1, 2])])
def test_what_is_no_whole_number_is_refused_by_its_name(call, number):
    with pytest.raises(TypeError, match="[a-z_]+: expected a whole number, got"):
        call(number)


def test_a_whole_number_may_be_a_float():
    assert data.pad([[1]], 7.0, length=2.0)[0].tolist() == [[1, 7]]
    assert data.Windows(np.arange(9), np.float32(3)).draw(2e0).shape == (2, 3)


def test_sizes_and_ids_that_nothing_fits():
    for length in (0, -3):
        with pytest.raises(ValueError, match="length: expected at least 1, got"):
            data.Windows(np.arange(9), length)
    with pytest.raises(ValueError, match="batch: expected at least 0, got -1"):
        data.Examples("ab").draw(-1)
    with pytest.raises(ValueError, match=r"ids: expected one long sequence, got shape \(9, 2\)"):
        data.Windows(np.zeros((9, 2), int), 3)
    with pytest.raises(ValueError, match=r"lengths: expected one number per example, got shape \(2, 2\)"):
        data.by_length([[1, 2], [3, 4]], 2)
    with pytest.raises(ValueError, match="ids below 2..63, got 9223372036854775808"):
        data.pad(np.array([[1, 2**63]], np.uint64))
    with pytest.raises(ValueError, match="vocab_size: expected at most 2..32"):
        data.write_tokens("never-written", [[2**33]], 2**40)  # its ids would be cut to 32 bits
    with pytest.raises(TypeError, match="fraction: expected a number between 0 and 1, got '0.1'"):
        data.split_ids(np.arange(9), "0.1")


def test_a_token_file_is_split_and_sent_without_reading_it(tmp_path):
    ids = np.arange(10_000) % 50
    data.write_tokens(tmp_path / "x", [ids], 50)
    whole = data.TokenFile(tmp_path / "x", 10)
    train, held = data.split_ids(whole, 0.25)
    for part, expected in ((train, ids[10:][:7492]), (held, ids[10:][7492:]), (held.part(3, -5), ids[10:][7495:-5])):
        again = pickle.loads(pickle.dumps(part))
        assert len(pickle.dumps(part)) < 500  # the ids stay in the file, which a worker process maps, too
        for file in (part, again, copy.deepcopy(part)):
            assert isinstance(file, data.TokenFile) and len(file) == len(expected)
            np.testing.assert_array_equal(file[:], expected)


def test_what_could_not_be_written_leaves_nothing(tmp_path):
    def pieces():
        yield [1, 2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.write_tokens(tmp_path / "x", pieces(), 9)
    assert not list(tmp_path.iterdir())
