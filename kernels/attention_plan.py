"""One attention call as a record of plain integers: addresses, byte strides, spans, tasks and workspaces.

Compiled code reads this record only, so that one compilation per dtype serves arrays of any layout. Arrays are named by
their address and the byte strides of their axes, `q_b q_h q_t q_c` for (batch, head, position, column).
"""
import importlib

import numpy as np

from kernels.arrays import CACHE_LINE, address, contiguous_strides
from kernels.attention_tiles import TILE
from kernels.matmul_plan import ceil_div, round_up
from kernels.reference_attention import stream_keys

ARRAYS = ("q", "k", "v", "out", "g", "dq", "dk", "dv", "mask", "bias", "dbias")
_NUMBERS = ("B", "H", "Hkv", "T", "S", "K", "V", "K_padded", "V_padded", "left", "right", "threshold",
            "lse", "offset", "q_len", "k_lo", "k_hi", "holes", "words",
            "chunks", "chunk", "tasks", "share_b", "share_h", "dk_chunk", "dv_chunk", "counter", "unfit", "config",
            "work", "work_bytes")
PLAN = np.dtype([("scale", np.float64), ("keep", np.float64)] + [(name, np.int64) for name in _NUMBERS]
                + [(name + axis, np.int64) for name in ARRAYS for axis in ("", "_b", "_h", "_t", "_c")])
PLACE = {name: place for place, name in enumerate(PLAN.fields or ())}    # every field has 8 bytes
COUNTER = len(PLACE) + CACHE_LINE // 8       # where tasks are counted, and who met unfit numbers: on cache lines of their own
WANTED_TASKS = 16            # cut long sequences into chunks of queries until there are so many tasks
SHORTEST_CHUNK = 256         # but not shorter than this: each chunk packs the keys again


class Plan:
    """What calls with equal shapes, strides and options share: the record but for the addresses of their arrays."""

    def __init__(self, p, module, way, kind, threads, arrays):
        """module: a kernel's, by name; way: "forward" or "backward"; kind: see `worker_address`; arrays: by name, None for none."""
        from kernels.attention_launch import worker_address

        kernel = importlib.import_module(module)
        self.words = np.zeros(COUNTER + 2 + CACHE_LINE // 8, np.int64)
        self.words[:2].view(np.float64)[:] = p.scale, p.keep_scale
        self.kept = []
        if kernel.WIDTH_MULTIPLE:
            from kernels.amx import CONFIG

            self.point("config", CONFIG)
        lane = kernel.WIDTH_MULTIPLE or CACHE_LINE // p.dtype.itemsize
        K_padded, V_padded = round_up(p.K, lane), round_up(p.V, lane)
        self.set(B=p.B, H=p.H, Hkv=p.Hkv, T=p.T, S=p.S, K=p.K, V=p.V, left=p.left, right=p.right)
        self.set(K_padded=K_padded, V_padded=V_padded)
        for name in ("offset", "q_len", "k_lo", "k_hi"):
            self.point(name, np.ascontiguousarray(getattr(p, name), np.int64))
        if p.holes is not None:
            self.point("holes", np.ascontiguousarray(p.holes))
        if p.dropout:
            self.set(threshold=p.threshold)
            self.point("words", stream_keys(p))
        for name, array in (("mask", p.mask), ("bias", p.bias)):
            if array is not None:
                self.point(name, array)
                self.stride(name, array.strides)
        wide = {name: array for name, array in arrays.items() if array is not None and name != "lse"}
        if "dbias" in wide:
            wide["dbias"] = np.broadcast_to(wide["dbias"], (p.B, p.H, p.T, p.S))
        for name, array in wide.items():
            self.stride(name, array.strides)
        tasks, chunks, chunk = self.split(p, wide.get("dbias"))
        self.parts = {name: (chunks, *arrays[name].shape) for name in ("dk", "dv") if way == "backward" and chunks > 1}
        for name, shape in self.parts.items():
            first, *strides = contiguous_strides(shape, p.dtype.itemsize)
            self.set(**{name + "_chunk": first})
            self.stride(name, strides)
        self.threads, self.dtype = threads_for(p, threads, tasks), p.dtype
        sizes = (K_padded, V_padded) if way == "forward" else (K_padded, V_padded, chunk)
        bytes_each = round_up(getattr(kernel, way + "_bytes")(p, *sizes), 4096) + CACHE_LINE
        self.set(work_bytes=bytes_each)
        self.room = self.threads * bytes_each + CACHE_LINE
        self.worker = worker_address(kernel, way, kind)

    def set(self, **numbers):
        """Store integers."""
        for name, value in numbers.items():
            self.words[PLACE[name]] = value

    def point(self, name, array):
        """Store the address of an array that belongs to the plan, and keep it alive."""
        self.kept.append(array)
        self.words[PLACE[name]] = address(array)

    def stride(self, name, strides):
        """Store the strides of an array with 4 axes."""
        self.words[PLACE[name] + 1 : PLACE[name] + 5] = strides

    def split(self, p, dbias):
        """Cut the work into tasks (batch, key head, chunk of queries); a matter of the shape alone, never of the threads.

        Where batches or heads share a piece of `dbias` (stride 0) they are one task, uncut. (tasks, chunks, queries in a chunk)
        """
        share_b, share_h = (dbias is not None and dbias.strides[axis] == 0 for axis in (0, 1))
        pairs = (1 if share_b else p.B) * (1 if share_h else p.Hkv)
        chunks = max(1, min(ceil_div(WANTED_TASKS, max(pairs, 1)), p.T // SHORTEST_CHUNK)) if dbias is None else 1
        chunk = ceil_div(ceil_div(max(p.T, 1), TILE), chunks) * TILE
        chunks = ceil_div(max(p.T, 1), chunk)
        self.set(chunks=chunks, chunk=chunk, tasks=pairs * chunks, share_b=share_b, share_h=share_h)
        return pairs * chunks, chunks, chunk

    def run(self, arrays):
        """Start the kernel on arrays like those the plan was made for. False if it met numbers that are not finite: one on matrix
        tiles has then stopped, and another must do the whole call."""
        from kernels.attention_launch import launch

        words = self.words.copy()                # a call's own: it counts there which tasks are done
        parts = {name: np.empty(shape, self.dtype) for name, shape in self.parts.items()}
        for name, array in arrays.items():
            if array is not None:
                words[PLACE[name]] = address(parts.get(name, array))
        room, start = np.empty(self.room, np.uint8), address(words)
        words[PLACE["work"]] = round_up(address(room), CACHE_LINE)
        words[PLACE["counter"]], words[PLACE["unfit"]] = start + 8 * COUNTER, start + 8 * COUNTER + 8
        launch(self.threads, self.worker, start)
        for name, each in parts.items():         # dk and dv where several tasks add to them: in order
            np.add.reduce(each, axis=0, out=arrays[name])
        return words[COUNTER + 1] == 0


def threads_for(p, wanted, tasks):
    """One thread for small problems: waking the others costs more than they save."""
    return max(1, min(wanted, tasks)) if p.B * p.H * p.T * p.S * (p.K + p.V) > 1 << 20 else 1
