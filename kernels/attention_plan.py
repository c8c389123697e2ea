"""One attention call as a record of plain integers: addresses, byte strides, spans, tasks and workspaces.

Compiled code reads this record only, so that one compilation per dtype serves arrays of any layout. Arrays are named by
their address and the byte strides of their axes, `q_b q_h q_t q_c` for (batch, head, position, column).
"""
import numpy as np

from kernels.arrays import CACHE_LINE, address
from kernels.attention_tiles import TILE

ARRAYS = ("q", "k", "v", "out", "g", "dq", "dk", "dv", "mask", "bias", "dbias")
_NUMBERS = ("B", "H", "Hkv", "T", "S", "K", "V", "K_padded", "V_padded", "left", "right", "threshold",
            "lse", "offset", "q_len", "k_lo", "k_hi", "holes", "words",
            "chunks", "chunk", "tasks", "share_b", "share_h", "dk_chunk", "dv_chunk", "counter", "unfit", "config",
            "work", "work_bytes")
PLAN = np.dtype([("scale", np.float64), ("keep", np.float64)] + [(name, np.int64) for name in _NUMBERS]
                + [(name + axis, np.int64) for name in ARRAYS for axis in ("", "_b", "_h", "_t", "_c")])
PLACE = {name: place for place, name in enumerate(PLAN.fields or ())}    # every field has 8 bytes
WANTED_TASKS = 16            # cut long sequences into chunks of queries until there are so many tasks
SHORTEST_CHUNK = 256         # but not shorter than this: each chunk packs the keys again


class Plan:
    """The record, and the arrays it points into, which must live as long as it does."""

    def __init__(self, p, multiple=None):
        """`multiple`: what widths are padded to, a vector unless given."""
        self.record = np.zeros(1, PLAN)
        # its numbers by place: a field by name costs five times as much
        self.words, self.reals = self.record.view(np.int64), self.record.view(np.float64)
        self.reals[:2] = p.scale, p.keep_scale
        self.kept = []
        if multiple:
            from kernels.amx import CONFIG

            self.point("config", CONFIG)
        lane = multiple or CACHE_LINE // p.dtype.itemsize
        self.set(B=p.B, H=p.H, Hkv=p.Hkv, T=p.T, S=p.S, K=p.K, V=p.V, left=p.left, right=p.right,
                 K_padded=-(-p.K // lane) * lane, V_padded=-(-p.V // lane) * lane)
        for name in ("offset", "q_len", "k_lo", "k_hi"):
            self.point(name, np.ascontiguousarray(getattr(p, name), np.int64))
        if p.holes is not None:
            self.point("holes", np.ascontiguousarray(p.holes))
        self.arrays(mask=p.mask, bias=p.bias)
        if p.dropout:
            self.set(threshold=p.threshold)
            self.point("words", stream_keys(p))

    def set(self, **numbers):
        """Store integers."""
        for name, value in numbers.items():
            self.words[PLACE[name]] = value

    def point(self, name, array):
        """Store the address of an array without strides, and keep the array alive."""
        self.kept.append(array)
        self.words[PLACE[name]] = address(array)

    def arrays(self, **arrays):
        """Store address and strides of 4-axis arrays; None leaves the address 0."""
        for name, array in arrays.items():
            if array is not None:
                self.kept.append(array)
                place = PLACE[name]
                self.words[place : place + 5] = (address(array), *array.strides)

    def split(self, dbias=None):
        """Cut the work into tasks (batch, key head, chunk of queries); a matter of the shape alone, never of the threads.

        Where batches or heads share a piece of `dbias` (stride 0) they are one task, uncut.
        """
        batches, kv_heads, T = (int(self.words[PLACE[name]]) for name in ("B", "Hkv", "T"))
        share_b, share_h = (dbias is not None and dbias.strides[axis] == 0 for axis in (0, 1))
        pairs = (1 if share_b else batches) * (1 if share_h else kv_heads)
        chunks = max(1, min(-(-WANTED_TASKS // max(pairs, 1)), T // SHORTEST_CHUNK)) if dbias is None else 1
        tiles = -(-max(T, 1) // TILE)
        chunk = -(-tiles // chunks) * TILE
        chunks = -(-max(T, 1) // chunk)
        self.set(chunks=chunks, chunk=chunk, tasks=pairs * chunks, share_b=share_b, share_h=share_h)
        return chunks

    def workspace(self, threads, bytes_each):
        """Room for each thread, and the counter from which tasks are drawn, on cache lines of their own."""
        bytes_each = -(-bytes_each // 4096) * 4096 + CACHE_LINE
        room = np.empty(threads * bytes_each + 3 * CACHE_LINE, np.uint8)
        self.kept.append(room)
        skipped = -address(room) % CACHE_LINE
        start = address(room) + skipped
        self.set(counter=start, unfit=start + 8, work=start + 2 * CACHE_LINE, work_bytes=bytes_each)
        self.shared = room[skipped:][:16].view(np.int64)
        self.shared[:] = 0

    def unfit(self):
        """Whether a task met numbers that its kernel cannot handle, so that another kernel must do the whole call."""
        return bool(self.shared[1])


def stream_keys(p):
    """Two 32-bit keys per (batch, head), as `reference_attention.random_bits` makes them: (B·H, 2) uint32."""
    from kernels.reference_attention import mix64

    with np.errstate(over="ignore"):
        stream = mix64(np.uint64(p.seed) + np.arange(p.B * p.H, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return np.stack([stream & np.uint64(0xFFFFFFFF), stream >> np.uint64(32)], axis=1).astype(np.uint32)


def threads_for(p, wanted, tasks):
    """One thread for small problems: waking the others costs more than they save."""
    return max(1, min(wanted, tasks)) if p.B * p.H * p.T * p.S * (p.K + p.V) > 1 << 20 else 1
