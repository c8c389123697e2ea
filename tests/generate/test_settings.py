"""The choices of a call: what ends a text, and what is refused."""

import threading

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.generate.small import Letters, decoder, prompts
from tinygrad_llm import text
from tinygrad_llm.generate import Settings, generate


def test_stop_strings():
    tokenizer = text.train("chars", "abcdefghijklmnopqrstuvwx")
    model, ids = decoder(), prompts(2, rows=1)
    free = tokenizer.decode(generate(model, ids, max_new_tokens=12)[0, 5:])
    stop = free[3:5]
    got = tokenizer.decode(generate(model, ids, max_new_tokens=12, stop_strings=stop, tokenizer=tokenizer)[0, 5:])
    assert got == free[: free.index(stop) + 2]


@pytest.mark.parametrize("options", [{}, {"prompt_lookup_num_tokens": 3}])
def test_stop_strings_may_begin_in_the_prompt_and_must_end_in_what_is_written(options):
    model, ids = decoder(), prompts(2, rows=1)
    free = generate(model, ids, max_new_tokens=12, **options)
    stopped = lambda stop: generate(model, ids, max_new_tokens=12, stop_strings=stop, tokenizer=Letters(), **options)
    text = Letters().decode(free[0])
    assert np.array_equal(stopped(text[3:6]), free[:, :6])
    assert np.array_equal(stopped([text[3:6], "?"]), free[:, :6]) and np.array_equal(stopped(["?", text[3:6]]), free[:, :6])
    assert text[1:4] not in text[3:], "stands in the prompt alone"
    assert np.array_equal(stopped(text[1:4]), free)


def test_a_stop_string_may_end_in_a_character_of_several_tokens():
    class Bytes:
        def decode(self, ids):
            return bytes(int(i) for i in ids).decode("utf-8", errors="replace")

    settings = Settings(stop_strings=("né", "é!"), tokenizer=Bytes())
    text = np.frombuffer("née né!".encode(), np.uint8)
    ends = [n for n in range(1, len(text) + 1) if settings.ended(text[None, :n])[0]]
    assert ends == [3, 8, 9]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": 0.0}, "do_sample=False"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": 0}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"num_beams": 2, "stream": print}, "stream"),
        ({"stop_strings": ["a"]}, "tokenizer"),
        ({"max_new_tokens": 40}, "the model has 32 positions"),
        ({"attention_mask": np.ones((1, 5))}, "the shape of the prompts"),
        ({"attention_mask": np.array([[1, 1, 1, 1, 0]] * 2)}, "pad on the left"),
        ({"attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])}, "pad on the left"),
        ({"attention_mask": [[0.5, 1, 1, 1, 1]] * 2}, "expected 0 and 1"),
        ({"decoder_input_ids": [[1]]}, "decoder_input_ids: GPT2LMHeadModel has no encoder"),
        ({"length_penalty": 1e4, "num_beams": 2}, "length_penalty"),
        ({"length_penalty": float("nan")}, "length_penalty"),
        ({"no_repeat_ngram_size": 1.5}, "no_repeat_ngram_size"),
        ({"forced_eos_token_id": 5, "suppress_tokens": [6, 5]}, "suppress_tokens: expected none that must come last"),
        ({"forced_bos_token_id": 5, "suppress_tokens": [6, 5]}, "suppress_tokens: expected none that must come first"),
        ({"max_new_tokens": 2.5}, "max_new_tokens: expected a whole number"),
        ({"num_beams": 2.0}, "num_beams: expected a whole number"),
        ({"num_return_sequences": 2}, "num_return_sequences: expected 1 with do_sample=False"),
        ({"num_return_sequences": 3, "num_beams": 2}, "num_return_sequences: expected at most num_beams = 2"),
        ({"num_return_sequences": 0, "do_sample": True}, "num_return_sequences: expected a whole number"),
        ({"top_k": 2.5, "do_sample": True}, "top_k: expected a whole number"),
        ({"max_length": 5}, "max_length: expected a whole number above 5"),
        ({"typical_p": 0.0}, "typical_p: expected a number in"),
        ({"epsilon_cutoff": 1.0}, "epsilon_cutoff: expected a number in"),
        ({"encoder_repetition_penalty": -1.0}, "encoder_repetition_penalty: expected a number above 0"),
        ({"exponential_decay_length_penalty": (3,)}, "exponential_decay_length_penalty: expected"),
    ],
)
def test_bad_choices(options, message):
    with pytest.raises(ValueError, match=message):
        generate(decoder(), prompts(0), **options)


@pytest.mark.parametrize("name", ["eos_token_id", "pad_token_id"])
@pytest.mark.parametrize("wrong", [2.5, "a", True, np.array([1.0]), [3, "b"]], ids=str)
def test_ids_that_are_no_whole_numbers_are_refused(name, wrong):
    with pytest.raises(TypeError, match=f"{name}: expected ids, which are whole numbers, got "):
        generate(decoder(), prompts(0), max_new_tokens=2, **{name: wrong})


def test_threads_that_generate_with_one_model_do_not_turn_its_dropout_on():
    model = decoder().train()
    for module in model.modules():
        if isinstance(module, tg.nn.Dropout):
            module.p = 0.9
    alone, short = (generate(model, prompts(0), max_new_tokens=n) for n in (8, 1))
    ids, begun, go_on = [], threading.Event(), threading.Event()

    def wait(tokens):
        begun.set()
        go_on.wait(10)

    def let_the_other_end(tokens):
        go_on.set()
        thread.join()

    thread = threading.Thread(target=lambda: ids.append(generate(model, prompts(0), max_new_tokens=1, stream=wait)))
    thread.start()
    begun.wait(10)
    ids.append(generate(model, prompts(0), max_new_tokens=8, stream=let_the_other_end))
    np.testing.assert_array_equal(ids[0], short)
    np.testing.assert_array_equal(ids[1], alone)
    assert all(m.training for m in model.modules())
