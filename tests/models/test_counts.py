"""Parameter counts equal the published ones to the unit, and counting allocates nothing."""

import tracemalloc

import pytest

import tinygrad_llm as tg

COUNTS = {
    "bert-base": 109_482_240, "bert-large": 335_141_888,
    "gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200,
    "llama-7b": 6_738_415_616,
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_the_published_count(name):
    assert tg.models.count_parameters(name) == COUNTS[name]


def test_counting_seven_billion_allocates_next_to_nothing():
    tracemalloc.start()
    try:
        tg.models.count_parameters("llama-7b")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5e6


def test_an_unknown_name_says_what_is_near():
    with pytest.raises(ValueError, match="gpt2-medium"):
        tg.models.count_parameters("gpt2-medum")
