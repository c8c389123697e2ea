"""Kernels wherever they land: no Numba code, checked indices, damaged caches, other vectors, threads, forks."""
import functools
import os
import platform
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import kernels
from kernels import _cache, _threads
from tests.kernels import fresh

python = functools.partial(fresh.python, TINYGRAD_LLM_KERNELS="numba")

SMALL_PRODUCTS = """
    import numpy as np, kernels
    rng = np.random.default_rng(0)
    for m, n, k in ((1, 37, 50), (7, 9, 11), (20, 53, 18), (3, 70, 40)):
        for dtype in DTYPES:
            a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((n, k)).astype(dtype)
            more = {"bias": b[:, 0], "activation": "gelu", "residual": a[:, :1] + b[:, 1]} if FUSED else {}
            got = kernels.matmul(a, b, transpose_b=True, **more)
            expected = kernels.reference.matmul(a, b, transpose_b=True, **more)
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
            columns = np.ascontiguousarray(b.T)
            np.testing.assert_allclose(kernels.matmul(a, columns), a @ columns, rtol=1e-3, atol=1e-4)
    print("right")
"""
ATTENTION_IN_BANDS = """
    import numpy as np, kernels
    rng = np.random.default_rng(0)
    for dtype, options in (("f", {"is_causal": True}), ("f", {"is_causal": True, "query_offset": 5}), ("f", {"window": (3, 70)}),
                           ("f", {"window": (12, 0)}), ("d", {"is_causal": True}), ("d", {"window": (3, 7), "query_offset": 2})):
        q, k, v, g = rng.standard_normal((4, 1, 2, 150, 20)).astype(dtype)
        results = []
        for side in (kernels, kernels.reference):
            out, lse = side.attention_forward(q, k, v, **options)
            results.append((out, *side.attention_backward(g, q, k, v, out, lse, **options)[:3]))
        for got, expected in zip(*results):
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    print("right")
"""
OUT_OF_BOUNDS = """
    import numpy as np, kernels
    from kernels._jit import jit_tasks
    @jit_tasks
    def fill(task, tasks, out):
        out[task] = task
    out = np.zeros(6)
    for threads in (1, 2):
        fill(threads, 6, out)
        assert (out == np.arange(6)).all()
        try:
            fill(threads, 8, out)
        except IndexError:
            continue
        raise SystemExit(f"{threads} threads wrote past the end")
    print("caught")
"""
SMALL_ATTENTION = """
    import numpy as np, kernels
    q, k, v, g = np.random.default_rng(0).standard_normal((4, 2, 3, 5, 8), "f")
    def passes(**options):
        out, lse = kernels.attention_forward(q, k, v, **options)
        return out, *kernels.attention_backward(g, q, k, v, out, lse, **options)[:3]
    for options in ({"is_causal": True}, {"dropout_p": 0.5, "seed": 3}):
        ours = passes(**options)
        with kernels.use("numpy"):
            for a, b in zip(ours, passes(**options)):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    print("right")
"""
TWICE = """
    from kernels._jit import jit
    @jit
    def twice(x):
        return x + x
    assert twice(21) == 42
    print("loaded" if twice.stats.cache_hits else "compiled")
"""
BESIDE = """
    import sys, numpy as np, kernels
    helper = kernels.compile_beside(*sys.argv[1:])
    x = np.ones((3, 5), "f")
    kernels.round_bfloat16(x)                            # nothing that a helper is asked for here
    helper.wait()
    kernels.dropout_forward(x, 0.5, seed=1)
    from kernels import dropout
    kernel = dropout._drop
    print("started" if helper.process else "stayed away",
          "loaded" if kernel._entry.stats.cache_hits else "compiled")
"""


def test_import_loads_no_compiler():
    assert python("import sys, kernels; print('numba' in sys.modules, 'llvmlite' in sys.modules)") == "False False"


def test_every_module_can_be_the_first_that_is_imported():
    assert python("""
        import importlib, pkgutil, sys, kernels
        names = [m.name for m in pkgutil.iter_modules(kernels.__path__) if not m.name.startswith("_")]
        for name in names:
            for loaded in [m for m in sys.modules if m.split(".")[0] == "kernels"]:
                del sys.modules[loaded]
            importlib.import_module("kernels." + name)
        print("reference_matmul" in names)
    """) == "True"


ALL = "DTYPES, FUSED = ('f', 'd'), True\n" + textwrap.dedent(SMALL_PRODUCTS)
FEW = "DTYPES, FUSED = ('f',), False\n" + textwrap.dedent(SMALL_PRODUCTS)           # less to compile


@pytest.mark.parametrize("environment", [{"NUMBA_DISABLE_JIT": "1"}, {"TINYGRAD_LLM_KERNELS": "numpy"}], ids=str)
def test_products_are_right_under(environment):
    assert python(ALL, **environment) == "right"


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"NUMBA_BOUNDSCHECK": "1"}, {"TINYGRAD_LLM_VECTORS": "8"},
                                         {"TINYGRAD_LLM_VECTORS": "4"}], ids=str)
def test_products_compiled_otherwise_are_right(environment):
    from kernels import simd

    if environment.get("TINYGRAD_LLM_VECTORS") == str(simd.LANES32):
        pytest.skip("the width that every other test runs on here")
    assert python(FEW, **environment) == "right"


@pytest.mark.slow
@pytest.mark.parametrize("lanes", ["16", "8", "4"])
def test_attention_along_the_diagonal_is_right_whatever_the_vectors(lanes):
    from kernels import simd

    if lanes == str(simd.LANES32):
        pytest.skip("the width that every other test runs on here")
    assert python(ATTENTION_IN_BANDS, TINYGRAD_LLM_VECTORS=lanes) == "right"


@pytest.mark.parametrize("environment", [{"NUMBA_BOUNDSCHECK": "1"}, {"NUMBA_DISABLE_JIT": "1"}], ids=str)
def test_an_exception_in_a_task_comes_out_whatever_the_threads(environment):
    assert python(OUT_OF_BOUNDS, NUMBA_NUM_THREADS="2", **environment) == "caught"


HASWELL = ("+64bit,+aes,+avx,+avx2,+bmi,+bmi2,+cmov,+cx16,+cx8,+f16c,+fma,+fxsr,+lzcnt,+mmx,+movbe,+pclmul,+popcnt,+sahf,"
           "+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave,+xsaveopt,-avx512f,-amx-tile")


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names processors of another architecture")
@pytest.mark.parametrize("lanes, environment", [
    (8, {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": HASWELL}), (4, {"NUMBA_CPU_NAME": "generic"}),
], ids=["haswell", "generic"])
def test_products_for_another_processor_are_right(lanes, environment):
    """The width follows the processor that Numba compiles for, and no instruction of the host's own slips in."""
    told = f"from kernels import amx, simd; assert (simd.LANES32, amx.AVAILABLE) == ({lanes}, False)\n"
    assert python(told + FEW, **environment) == "right"


SAPPHIRE_RAPIDS = HASWELL.split(",-")[0] + "".join(
    ",+" + name for name in ("avx512f", "avx512vl", "avx512dq", "avx512bw", "avx512cd", "avx512vnni", "avx512bf16", "amx-tile",
                             "amx-bf16", "amx-int8"))  # fmt: skip
WIDE = """
    import importlib
    from numba import boolean, float32, int64, none
    from kernels import amx, simd
    assert simd.LANES32 == 16
    amx.AVAILABLE = True                                  # whatever the system says: nothing is run
    from kernels import activation, gelu_table, matmul_call, matmul_int8_tiles, matmul_quantized
    from kernels.attention_launch import worker_address
    assert gelu_table.AVAILABLE and matmul_int8_tiles.AVAILABLE
    x = float32[:, ::1]
    for name in gelu_table.FUNCTIONS:
        values, slopes, overwrite = activation.LINES32[name]
        values.compile((int64, int64, x, none, x, boolean)), overwrite.compile((float32[::1],))
        slopes.compile((int64, int64, x, x, none, x, none, x, boolean))
    made = [matmul_call.tiles(amx.THREE_PIECES)[0], matmul_call.worker_address(4, False, True), matmul_quantized.tiles_address()]
    for way in ("forward", "backward"):
        made.append(worker_address(importlib.import_module("kernels.attention_amx_" + way), way, "float32"))
    print("compiled", all(made))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names processors of another architecture")
def test_what_only_wide_vectors_and_matrix_tiles_run_compiles_here_too():
    """So that a change made on a host without AVX-512 or AMX does not break hosts that have them; the numbers they alone can tell."""
    from kernels import amx, gelu_table

    if amx.AVAILABLE and gelu_table.AVAILABLE:
        pytest.skip("this host has both: other tests compile all of it, and look at the numbers")
    assert python(WIDE, NUMBA_CPU_NAME="sapphirerapids", NUMBA_CPU_FEATURES=SAPPHIRE_RAPIDS) == "compiled True"


def test_without_numba_the_loops_run_as_plain_python():
    """Nor llvmlite, which comes with it."""
    gone = "import sys; sys.modules['numba'] = sys.modules['llvmlite'] = None\n"
    assert python(gone + ALL) == "right"
    assert python(gone + textwrap.dedent(SMALL_ATTENTION)) == "right"


@pytest.mark.parametrize("name, value", [("TINYGRAD_LLM_KERNELS", "cuda"), ("TINYGRAD_LLM_VECTORS", "7"),
                                         ("TINYGRAD_LLM_MALLOC", "glibc"), ("NUMBA_NUM_THREADS", "two")])
def test_a_wrong_setting_is_explained_by_the_first_kernel(name, value):
    """Not by the import, where no command line could report it."""
    said = python("""
        import kernels, numpy as np
        try:
            kernels.matmul(np.ones((2, 2)), np.ones((2, 2)))
        except ValueError as error:
            print(error)
    """, **{name: value})
    assert name in said and value in said and "expected" in said


def test_a_side_whose_block_is_never_entered_is_not_kept(monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    before = kernels._side.get()
    monkeypatch.setattr(kernels, "_match_blas_threads", interrupt)
    with pytest.raises(KeyboardInterrupt), kernels.use("numpy" if before == "numba" else "numba"):
        pass
    assert kernels._side.get() == before


def test_sides_can_be_chosen_and_are_restored():
    with kernels.use("numpy"):
        assert kernels.matmul(np.ones((2, 2)), np.ones((2, 2)))[0, 0] == 2
        with kernels.use("numba"):
            assert kernels._side.get() == "numba"
        assert kernels._side.get() == "numpy"
    with pytest.raises(ValueError, match="cuda"):
        kernels.use("cuda")


def test_a_side_holds_for_its_own_thread_only():
    with kernels.use("numpy"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(kernels._side.get).result() == kernels._default_side


def test_blas_has_the_cores_only_on_the_numpy_side():
    with kernels.use("numba"):
        assert _threads._blas_now == 1
        with kernels.use("numpy"):
            assert _threads._blas_now == kernels.get_num_threads()
        assert _threads._blas_now == 1


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2"])
def test_a_wrong_number_of_threads_is_explained(n):
    with pytest.raises(ValueError, match="set_num_threads"):
        kernels.set_num_threads(n)


# ---- the cache --------------------------------------------------------------------------------------------------------

def test_cache_serves_the_next_process(tmp_path):
    script = tmp_path / "twice.py"
    script.write_text(textwrap.dedent(TWICE))
    run = f"import runpy; runpy.run_path({str(script)!r})"
    assert [python(run, NUMBA_CACHE_DIR=str(tmp_path / "cache")) for _ in range(2)] == ["compiled", "loaded"]
    entries = list((tmp_path / "cache").rglob("*.kernel"))
    assert len(entries) == 1 and not list((tmp_path / "cache").rglob("*.tmp"))


def test_no_process_compiles_what_another_has_compiled():
    run = """
        import kernels
        from numba.core import event
        names = []
        class Listener(event.Listener):
            def on_start(self, event):
                names.append(event.data["dispatcher"].py_func.__qualname__)
            def on_end(self, event):
                pass
        event.register("numba:compile", Listener())
        kernels.warmup()
        kernels.warmup(("float64",))
        import numpy as np
        import tinygrad_llm as tg
        for name, sizes in {
            "gpt2": dict(n_embd=16, n_head=2, n_layer=1, vocab_size=20), "llama-7b": dict(hidden_size=16, intermediate_size=24,
            num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, vocab_size=20),
        }.items():
            for prepare in (lambda model: model, lambda model: model.quantize()):
                prepare(tg.models.create(name, **sizes)).generate(np.array([[3, 4]]), max_new_tokens=3)
        print("compiled", *names)
    """
    python(run)
    assert python(run) == "compiled"


def test_a_called_function_is_part_of_its_caller_and_no_entry_of_its_own(tmp_path):
    script = tmp_path / "calls.py"
    script.write_text(textwrap.dedent("""
        from kernels._jit import jit
        @jit
        def inner(x):
            return x * 3
        @jit
        def outer(x):
            return inner(x) + 1
        print(outer(4), inner(4))
    """))
    run = f"import runpy; runpy.run_path({str(script)!r})"
    for _ in range(2):
        assert python(run, NUMBA_CACHE_DIR=str(tmp_path / "cache")) == "13 12"
    entries = sorted(path.name.split("-")[0] for path in (tmp_path / "cache").rglob("*.kernel"))
    assert entries == ["inner", "outer"]                # inner's is the call from Python


@pytest.mark.skipif(_threads.cores() < 2, reason="a second process needs a core")
def test_on_a_cold_start_a_second_process_compiles_what_comes_later(tmp_path):
    run = functools.partial(python, BESIDE, NUMBA_CACHE_DIR=str(tmp_path))
    assert run("dropout.warmup") == "started loaded"
    assert run("dropout.warmup") == "stayed away loaded"
    for entry in tmp_path.rglob("*.kernel"):
        entry.unlink()
    assert run("dropout.no_such_function") == "started compiled"             # its failure is nobody else's


def test_a_damaged_entry_is_made_again(tmp_path):
    script = tmp_path / "twice.py"
    script.write_text(textwrap.dedent(TWICE))
    assert python(f"""
        import runpy
        from pathlib import Path
        run = lambda: runpy.run_path({str(script)!r})            # a dispatcher of its own each time, which asks the disk
        run()
        entry, = Path({str(tmp_path)!r}).rglob("*.kernel")
        whole = entry.read_bytes()
        flipped = whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:]
        for damage in (b"", whole[:len(whole) // 2], flipped):
            entry.write_bytes(damage)
            run(), run()
    """, NUMBA_CACHE_DIR=str(tmp_path)).split() == ["compiled", *["compiled", "loaded"] * 3]


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path):
    blocked = tmp_path / "a file, not a folder"
    blocked.write_text("")
    script = tmp_path / "twice.py"
    script.write_text(textwrap.dedent(TWICE))
    assert python(f"import runpy; runpy.run_path({str(script)!r})", NUMBA_CACHE_DIR=str(blocked)) == "compiled"


def test_the_next_folder_is_used_when_the_first_cannot_be_written(tmp_path, monkeypatch):
    blocked = tmp_path / "a file"
    blocked.write_text("")
    assert not _cache._write(blocked / "entry", b"payload")
    assert _cache._write(tmp_path / "new" / "entry", b"payload")
    assert _cache._read(tmp_path / "new" / "entry") == b"payload"
    assert _cache._read(blocked / "entry") is None


def test_processes_may_fill_the_cache_at_once(tmp_path):
    script = tmp_path / "twice.py"
    script.write_text(textwrap.dedent(TWICE))
    with ThreadPoolExecutor(4) as pool:
        run = f"import runpy; runpy.run_path({str(script)!r})"
        runs = [pool.submit(python, run, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(4)]
        assert {run.result() for run in runs} <= {"compiled", "loaded"}
    assert python(run, NUMBA_CACHE_DIR=str(tmp_path)) == "loaded"


BITS = """
    import sys, numpy as np, kernels
    x, g = np.random.default_rng(0).standard_normal((2, 400, 203)).astype(np.float32)
    _, mean, rstd = kernels.layer_norm_forward(x)
    for threads in THREADS:
        kernels.set_num_threads(threads)
        print(kernels.layer_norm_backward(g, x, None, mean, rstd)[0].tobytes().hex()[:4000])
"""


@pytest.mark.slow
def test_the_first_process_computes_the_bits_of_the_later_ones(tmp_path):
    """Compiled just now or loaded, serial or parallel, in any order: a caller always meets the same code of its callee."""
    code = textwrap.dedent(BITS)
    found = [python(code.replace("THREADS", order), NUMBA_CACHE_DIR=str(tmp_path), NUMBA_NUM_THREADS="2").split()
             for order in ("(1,)", "(2, 1, 2)", "(1, 2)", "(2,)")]
    assert {bits for run in found for bits in run} == {found[0][0]}


def test_the_key_changes_with_any_source_and_any_switch(tmp_path, monkeypatch):
    def stamp():
        _cache.build_stamp.cache_clear()
        return _cache.build_stamp()

    monkeypatch.setattr(_cache, "HERE", tmp_path)
    (tmp_path / "one.py").write_text("x = 1")
    stamps = [stamp()]
    (tmp_path / "two.py").write_text("x = 1")
    stamps.append(stamp())
    (tmp_path / "two.py").write_text("x = 2")
    stamps.append(stamp())
    monkeypatch.setenv("TINYGRAD_LLM_VECTORS", "8")
    stamps.append(stamp())
    monkeypatch.setattr(_cache.numba, "__version__", "0")
    stamps.append(stamp())
    assert len(set(stamps)) == 5
    monkeypatch.undo()
    _cache.build_stamp.cache_clear()


def test_a_closure_that_no_other_process_would_name_so_is_refused():
    def scale(by):
        def kernel(x):
            return by(x)

        return kernel

    with pytest.raises(TypeError, match="another one in each process"):
        _cache.KernelCache(scale(functools.partial(scale, 2)), {})


def test_the_key_changes_with_a_closure():
    def make(n):
        def add(x):
            return x + n
        return add

    assert _cache._describe(make(1)) == _cache._describe(make(1)) != _cache._describe(make(2))


# ---- threads ----------------------------------------------------------------------------------------------------------

def test_same_bits_at_one_two_four_and_eight_threads():
    assert python("""
        import numpy as np, kernels
        rng = np.random.default_rng(0)
        for m, n, k in ((200, 300, 250), (1, 4000, 300), (16, 700, 600), (300, 100, 1000)):
            a, b = rng.standard_normal((2, m, k)).astype(np.float32), rng.standard_normal((n, k)).astype(np.float32)
            found = set()
            for threads in (1, 2, 4, 8):
                kernels.set_num_threads(threads)
                assert kernels.get_num_threads() == threads
                found.add(kernels.matmul(a, b, transpose_b=True, bias=b[:, 0], activation="silu").tobytes()
                          + kernels.matmul(a[0], np.ascontiguousarray(b.T)).tobytes())
            assert len(found) == 1, (m, n, k)
        print("same")
    """, NUMBA_NUM_THREADS="8") == "same"


def test_python_threads_may_call_at_once_and_numba_starts_no_pool():
    assert python("""
        import numpy as np, kernels
        from concurrent.futures import ThreadPoolExecutor
        kernels.set_num_threads(2)
        a = np.random.default_rng(0).standard_normal((160, 170)).astype(np.float32)
        expected = kernels.matmul(a, a, transpose_b=True)
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda _: [kernels.matmul(a, a, transpose_b=True) for _ in range(20)], range(4)))
        assert all((y == expected).all() for ys in results for y in ys)
        import numba
        try:
            print(numba.threading_layer())
        except ValueError:
            print("none")
    """, NUMBA_NUM_THREADS="2") == "none"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_goes_on_with_threads_of_its_own():
    assert python("""
        import os, sys, numpy as np, kernels
        kernels.set_num_threads(2)
        a = np.ones((200, 200), np.float32)
        kernels.matmul(a, a)
        child = os.fork()
        if child == 0:
            right = kernels.get_num_threads() == 2 and (kernels.matmul(a, a) == 200).all()
            os._exit(0 if right else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """, NUMBA_NUM_THREADS="2") == "0"


@pytest.mark.parametrize("side", kernels.SIDES)
@pytest.mark.parametrize("dtypes, got", [("float16", "float16"), (("float32", "int64"), "int64"), (np.bool_, "bool")])
def test_warmup_names_a_dtype_without_kernels(side, dtypes, got):
    with kernels.use(side), pytest.raises(TypeError, match=f"warmup: expected float32 or float64, got {got}"):
        kernels.warmup(dtypes)


@pytest.mark.parametrize("dtypes", ["float32", np.float32, np.dtype(np.float32), [np.float32]])
def test_warmup_takes_one_dtype_or_several(dtypes, monkeypatch):
    seen = []
    monkeypatch.setattr(kernels, "compile_beside", lambda *names, dtypes: seen.append(dtypes))
    monkeypatch.setattr(kernels, "_NUMBA_MODULES", {"matmul": "matmul_call", "relu_forward": "activation"})
    with kernels.use("numba"):
        kernels.warmup(dtypes)
    assert seen == [("float32",)]
