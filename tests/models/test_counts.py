"""Parameter counts equal the published ones to the unit, and counting allocates nothing."""

import tracemalloc

import pytest

import tinygrad_llm as tg

COUNTS = {
    "bert-base": 109_482_240, "bert-large": 335_141_888,
    "gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200,
    "llama-7b": 6_738_415_616,
    "t5-small": 60_506_624, "t5-base": 222_903_552, "t5-large": 737_668_096, "t5-3b": 2_851_598_336, "t5-11b": 11_307_321_344,
    "bart-base": 139_420_416, "bart-large": 406_291_456,
    "t5-v1_1-small": 76_961_152, "t5-v1_1-base": 247_577_856, "t5-v1_1-large": 783_150_080, "t5-v1_1-xl": 2_849_757_184,
    "t5-v1_1-xxl": 11_135_332_352,
    "bert-tiny": 4_385_920, "bert-mini": 11_170_560, "bert-small": 28_763_648, "bert-medium": 41_373_184,
    "roberta-base": 124_645_632, "roberta-large": 355_359_744,
    "albert-base": 11_683_584, "albert-large": 17_683_968, "albert-xlarge": 58_724_864, "albert-xxlarge": 222_595_584,
    "electra-small": 13_483_008, "electra-base": 108_891_648, "electra-large": 334_092_288, "gpt": 116_534_784,
    "llama-13b": 13_015_864_320, "llama-30b": 32_528_943_616, "llama-65b": 65_285_660_672, "llama2-70b": 68_976_648_192,
    "llama3.1-8b": 8_030_261_248, "llama3.1-70b": 70_553_706_496, "mistral-7b": 7_241_732_096, "qwen2-0.5b": 494_032_768,
    "qwen3-0.6b": 596_049_920,
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_the_published_count(name):
    assert tg.models.count_parameters(name) == COUNTS[name]


HEADS = {  # no count tells them
    "bert": dict(tiny=2, mini=4, small=8, medium=8, base=12, large=16), "roberta": dict(base=12, large=16),
    "albert": dict(base=12, large=16, xlarge=16, xxlarge=64), "electra": dict(small=4, base=12, large=16),
    "gpt2": dict(medium=16, large=20, xl=25), "bart": dict(base=12, large=16), "t5": dict(small=8, base=12, large=16),
}  # fmt: skip


@pytest.mark.parametrize(("name", "heads"), [
    ("gpt", 12), ("gpt2", 12), *((f"{family}-{size}", n) for family, sizes in HEADS.items() for size, n in sizes.items()),
])  # fmt: skip
def test_the_published_number_of_heads(name, heads):
    assert tg.models.preset_config(name).num_attention_heads == heads


@pytest.mark.parametrize(("size", "head_width"), [
    ("125m", 64), ("350m", 64), ("760m", 96), ("1.3b", 128), ("2.7b", 80), ("6.7b", 128), ("13b", 128), ("175b", 128),
])  # fmt: skip
def test_gpt3s_sizes_are_those_of_its_table(size, head_width):
    """Table 2.1: the parameters, within a fiftieth of what each size is called, and how wide a head is."""
    config = tg.models.preset_config(f"gpt3-{size}")
    called = float(size[:-1]) * {"m": 1e6, "b": 1e9}[size[-1]]
    assert tg.models.count_parameters(f"gpt3-{size}") == pytest.approx(called, rel=0.02)
    assert config.n_embd == head_width * config.n_head and config.n_positions == 2048
    assert config.band == 128  # the Sparse Transformer's, where the paper says none


@pytest.mark.parametrize(("name", "overrides", "count"), [
    # a preset's own derived sizes do not stay behind: LlamaConfig and T5Config of transformers at these sizes
    ("llama-7b", dict(hidden_size=64, num_attention_heads=32, num_hidden_layers=2, intermediate_size=100, vocab_size=50), 77_888),
    ("t5-small", dict(num_layers=2), 31_136_256),
])  # fmt: skip
def test_sizes_derived_from_others_follow_them(name, overrides, count):
    assert tg.models.count_parameters(name, **overrides) == count


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
