"""Tensors in files: in pieces, and in bfloat16."""

import numpy as np
import pytest
from safetensors import safe_open

import tinygrad_llm as tg
from tinygrad_llm.models import tensor_file
from tinygrad_llm.models.tensor_file import TensorFile, to_bfloat16, write


@pytest.mark.parametrize("chunk", [1, 60, 1 << 20])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tensors_of_any_shape_are_read_in_pieces_of_any_size(chunk, dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_file, "CHUNK", chunk)
    values = {"matrix": np.arange(35.0, dtype=np.float32).reshape(5, 7), "number": np.float32(3.0).reshape(()),
              "empty": np.zeros((0, 3), np.float32), "again": np.arange(35.0, dtype=np.float32).reshape(5, 7)}  # fmt: skip
    values["other"] = values["matrix"] + np.eye(5, 7, k=2, dtype=np.float32)
    write(tmp_path / "f.safetensors", [(n, v.shape, lambda v=v: v) for n, v in values.items()], dtype, {"format": "pt"})
    entries = TensorFile(tmp_path / "f.safetensors").entries()

    def read(name, shape, *how):
        out = np.full(shape, np.nan, np.float32)
        entries[name].copy_to(out, *how)
        return out

    for name, value in values.items():
        np.testing.assert_array_equal(read(name, value.shape), value)
    np.testing.assert_array_equal(read("matrix", (7, 5), True), values["matrix"].T)
    np.testing.assert_array_equal(read("matrix", (2, 7), False, (2, 4)), values["matrix"][2:4])
    np.testing.assert_array_equal(read("matrix", (3, 5), True, (4, 7)), values["matrix"].T[4:7])
    with pytest.raises(tg.models.CheckpointError, match=r"f.safetensors: matrix: expected \(7, 5\), got \(5, 7\)"):
        read("matrix", (7, 5))
    if chunk > 1:  # less than a number of the file
        same = lambda a, b: tensor_file.same(entries[a], entries[b])
        assert same("matrix", "again") and not same("matrix", "other") and not same("matrix", "empty")


def test_bfloat16_is_exact_for_every_pattern(tmp_path):
    patterns = np.arange(2**16, dtype=np.uint16)
    values = (patterns.astype(np.uint32) << 16).view(np.float32)
    write(tmp_path / "all.safetensors", [("x", values.shape, lambda: values)], "bfloat16", {})
    got = np.empty(values.shape, np.float32)
    TensorFile(tmp_path / "all.safetensors").entries()["x"].copy_to(got)
    np.testing.assert_array_equal(got, values)
    with safe_open(str(tmp_path / "all.safetensors"), framework="numpy") as file:
        assert file.get_slice("x").get_dtype() == "BF16"


def test_bfloat16_rounds_to_nearest_even():
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20], np.float32)
    got = (to_bfloat16(ties).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(got, np.array([1.0, 1 + 2**-6, 1 + 2**-7], np.float32))
