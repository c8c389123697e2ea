"""Everything that happens to one tile of 64 keys × 64 queries between the products, and the packing before them.

A tile holds transposed scores: row s is a key, and the 64 queries of a row lie on the vector lanes. So the softmax
of a query runs down a column and never across lanes, K and V need no transposing, and the same tile is the left
operand of all products that follow. Operands lie packed in workspaces: rows of K, V, Q and dO padded with zeros to
whole vectors, and the rows of the last tile padded to 64.
"""
from kernels._jit import jit
from kernels.attention_products import FAR, product_by_rows
from kernels.simd import poke, select, store, vmax
from kernels.vectors import (
    byte_mask,
    constant,
    exp2,
    lanes,
    lanes_between,
    peek,
    peek_byte,
    peek_word,
    sizeof,
    splat,
    take,
    transpose_block,
    ucount,
    uload,
    usplat,
    vload,
)

TILE = 64                       # keys per tile, queries per tile
LOG2E = 1.4426950408889634
INF = float("inf")


# -- packing --------------------------------------------------------------------------------------

@jit
def pack_rows(target, padded, source, row_stride, column_stride, count, width, scale):
    """target[i] = scale · source[i], `padded` numbers wide with zeros past `width`, and zero rows up to a whole tile."""
    size, step = sizeof(scale), lanes(scale)
    factor = splat(scale)
    for i in range((count + TILE - 1) // TILE * TILE):
        here, there = target + i * padded * size, source + i * row_stride
        for j in range(0, padded, step):
            if i >= count:
                store(here + j * size, constant(0.0, scale))
            elif column_stride == size:
                store(here + j * size, factor * take(there + j * size, width - j, scale))
            else:
                for c in range(j, min(j + step, padded)):
                    poke(here + c * size, scale * peek(there + c * column_stride, scale) if c < width else type(scale)(0))


@jit
def pack_transposed(target, packed, padded, like):
    """target[d, q] = packed[q, d] for one tile of 64 packed rows."""
    size, step = sizeof(like), lanes(like)
    for q in range(0, TILE, step):
        for d in range(0, padded, step):
            transpose_block(packed + (q * padded + d) * size, padded * size, target + (d * TILE + q) * size, TILE * size, like)


@jit
def unpack_transposed(target, source, padded, like):
    """target[q, d] = source[d, q]: the reverse of `pack_transposed`."""
    size, step = sizeof(like), lanes(like)
    for q in range(0, TILE, step):
        for d in range(0, padded, step):
            transpose_block(source + (d * TILE + q) * size, TILE * size, target + (q * padded + d) * size, padded * size, like)


@jit
def fill(target, count, value):
    """`count` numbers, a multiple of the lanes."""
    for i in range(0, count, lanes(value)):
        store(target + i * sizeof(value), splat(value))


# -- hiding keys ----------------------------------------------------------------------------------

@jit
def together(like):
    """Queries whose rows are looked at as one: those of a vector, and no fewer than register tiles have rows."""
    return max(8, lanes(like))


@jit
def rows_seen(j, height, first, last, like):
    """[low, high) among `height` rows: those that the queries of vector j, or their neighbours, may see, in whole groups of 8."""
    q = j * lanes(like) // together(like) * together(like)
    low = min(height, max(0, (q + first) // 8 * 8))
    return low, max(low, min(height, (q + together(like) + last + 7) // 8 * 8))


@jit
def hide_band(tile, height, vectors, rows, first, last, like):
    """-inf where key s is not in q + first .. q + last for query q, and in the rows past the last key."""
    size, step = sizeof(like), lanes(like)
    hidden = constant(-INF, like)
    for j in range(vectors):
        column = tile + j * step * size
        low, high = rows_seen(j, height, first, last, like)
        for s in range(0, low):
            store(column + s * TILE * size, hidden)
        for s in range(low, high):
            here = column + s * TILE * size
            after = max(-TILE, min(TILE, s - last - j * step)) if s < rows else TILE
            before = max(-TILE, min(TILE, s - first - j * step))
            if after > 0 or before < step - 1:
                store(here, select(lanes_between(after, before, like), vload(here, like), hidden))
        for s in range(high, height):
            store(column + s * TILE * size, hidden)


@jit
def hide_masked(tile, mask, t_stride, s_stride, rows, queries, scratch, like):
    """-inf where the boolean mask[t, s] is False."""
    size, step = sizeof(like), lanes(like)
    hidden = constant(-INF, like)
    vectors = (queries + step - 1) // step
    if t_stride == 0 or queries == 1:                           # one answer for the whole row: a key mask
        for s in range(rows):
            if peek_byte(mask + s * s_stride) == 0:
                for j in range(vectors):
                    store(tile + (s * TILE + j * step) * size, hidden)
        return
    for q in range(vectors * step):                             # to 0 or -inf as a [q, s] tile, then transposed
        for s in range(0, TILE, step):
            here = scratch + (q * TILE + s) * size
            if q >= queries or s >= rows:
                store(here, constant(0.0, like))
            elif s_stride == 1:
                seen = byte_mask(mask + q * t_stride + s, min(step, rows - s), like)
                store(here, select(seen, constant(0.0, like), hidden))
            else:
                for c in range(s, s + step):
                    seen_byte = 1 if c >= rows else peek_byte(mask + q * t_stride + c * s_stride)
                    poke(scratch + (q * TILE + c) * size, type(like)(0.0 if seen_byte != 0 else -INF))
    block = scratch + TILE * TILE * size
    for q in range(0, vectors * step, step):
        for s in range(0, rows, step):
            transpose_block(scratch + (q * TILE + s) * size, TILE * size, block, step * size, like)
            for i in range(step):
                here = tile + ((s + i) * TILE + q) * size
                store(here, select(vload(block + i * step * size, like) < constant(0.0, like), hidden, vload(here, like)))


@jit
def add_bias(tile, bias, t_stride, s_stride, rows, queries, block, like):
    """tile[s, q] += bias[q, s], any strides; whole blocks are transposed in registers."""
    size, step = sizeof(like), lanes(like)
    for q in range(0, queries, step):
        for s in range(0, rows, step):
            if s_stride == size and q + step <= queries and s + step <= rows:
                transpose_block(bias + q * t_stride + s * size, t_stride, block, step * size, like)
                for i in range(step):
                    here = tile + ((s + i) * TILE + q) * size
                    store(here, vload(here, like) + vload(block + i * step * size, like))
            else:
                for i in range(s, min(s + step, rows)):
                    for c in range(q, min(q + step, queries)):
                        here = tile + (i * TILE + c) * size
                        poke(here, peek(here, like) + peek(bias + c * t_stride + i * s_stride, like))


@jit
def add_to_dbias(dbias, t_stride, s_stride, tile, rows, queries, block, like):
    """dbias[q, s] += tile[s, q], the mirror of `add_bias`; an axis of stride 0 is summed over.

    Such an axis is added up within the tile first: one running sum of a whole pattern of 500 x 500 was off by ten times more.
    """
    size, step = sizeof(like), lanes(like)
    if t_stride == 0 or s_stride == 0:
        lines, length, stride = (rows, queries, s_stride) if t_stride == 0 else (queries, rows, t_stride)
        next_line, next_number = (TILE * size, size) if t_stride == 0 else (size, TILE * size)
        total = type(like)(0)
        for i in range(lines):
            line = type(like)(0)
            for j in range(length):
                line += peek(tile + i * next_line + j * next_number, like)
            total += line
            if stride != 0 or i == lines - 1:
                poke(dbias + i * stride, peek(dbias + i * stride, like) + total)
                total = type(like)(0)
        return
    for q in range(0, queries, step):
        for s in range(0, rows, step):
            if s_stride == size and q + step <= queries and s + step <= rows:
                transpose_block(tile + (s * TILE + q) * size, TILE * size, block, step * size, like)
                for i in range(step):
                    here = dbias + (q + i) * t_stride + s * size
                    store(here, vload(here, like) + vload(block + i * step * size, like))
            else:
                for i in range(s, min(s + step, rows)):
                    for c in range(q, min(q + step, queries)):
                        here = dbias + c * t_stride + i * s_stride
                        poke(here, peek(here, like) + peek(tile + (i * TILE + c) * size, like))


# -- scores and softmax ---------------------------------------------------------------------------

@jit
def product_in_band(tile, left, left_row, right, height, vectors, depth, first, last, like):
    """tile[s, q] = left[s] · right[:, q], leaving out vectors of queries of which none sees one of 16 keys.

    What is left out is outside `rows_seen`: nothing but `hide_band` comes there.
    """
    size, step, row = sizeof(like), lanes(like), TILE * sizeof(like)
    group, queries = height if last == FAR else 16, together(like)
    for s in range(0, height, group):
        rows = min(group, height - s)
        start = max(0, (s - last) // queries * queries // step)
        stop = min(vectors, ((s + rows - 1 - first) // queries + 1) * queries // step)
        if start < stop:
            product_by_rows(tile + s * row + start * step * size, row, left + s * left_row, left_row, right + start * step * size,
                            row, rows, stop - start, depth, -FAR, FAR, 0, like)


@jit
def softmax_tile(tile, height, vectors, top, total, shrink, first, last, like):
    """One step of the online softmax (Milakov and Gimelshein 2018), down the columns; scores become exp(scores - top).

    top, total: running maximum and sum per query; shrink = exp(old top - new top), by which the output so far shrinks.
    """
    raise_tops(tile, height, vectors, top, total, shrink, first, last, like)
    size, step = sizeof(like), lanes(like)
    row = TILE * size
    for j in range(vectors):
        offset = j * step * size
        base = finite_base(vload(top + offset, like), like)
        even = odd = constant(0.0, like)
        low, high = rows_seen(j, height, first, last, like)
        here = tile + offset + low * row
        for _ in range(low, high, 2):
            p = exponential(vload(here, like) - base, like)
            store(here, p)
            even = even + p
            p = exponential(vload(here + row, like) - base, like)
            store(here + row, p)
            odd = odd + p
            here += 2 * row
        store(total + offset, vload(total + offset, like) + (even + odd))


@jit
def exponential(x, like):
    return exp2(x * constant(LOG2E, like))


@jit
def finite_base(top, like):
    """The maximum, or 0 where nothing is seen yet: exp(-inf - 0) = 0, where exp(-inf - -inf) were NaN."""
    return select(top == constant(-INF, like), constant(0.0, like), top)


@jit
def raise_tops(tile, height, vectors, top, total, shrink, first, last, like):
    """The maximum over each column joins `top`; total shrinks accordingly.

    A NaN score is passed over by the maximum and comes back through the exponential.
    """
    size, step = sizeof(like), lanes(like)
    lowest = constant(-INF, like)
    row = TILE * size
    for j in range(vectors):
        offset = j * step * size
        old = vload(top + offset, like)
        m0, m1, m2, m3 = old, lowest, lowest, lowest            # four chains: a maximum takes four cycles
        low, high = rows_seen(j, height, first, last, like)
        here = tile + offset + low * row
        for _ in range(low, high, 4):
            m0 = vmax(vload(here, like), m0)
            m1 = vmax(vload(here + row, like), m1)
            m2 = vmax(vload(here + 2 * row, like), m2)
            m3 = vmax(vload(here + 3 * row, like), m3)
            here += 4 * row
        new = vmax(vmax(m0, m1), vmax(m2, m3))
        factor = exponential(old - finite_base(new, like), like)
        store(top + offset, new)
        store(shrink + offset, factor)
        store(total + offset, vload(total + offset, like) * factor)


@jit
def gradient_tile(tile, dtile, height, vectors, lse, delta, first, last, like):
    """scores -> pattern = exp(scores - lse);  dpattern -> dscores = pattern · (dpattern - delta).

    lse is +inf for queries without keys.
    """
    size, step = sizeof(like), lanes(like)
    row = TILE * size
    for j in range(vectors):
        offset = j * step * size
        base, mean = vload(lse + offset, like), vload(delta + offset, like)
        low, high = rows_seen(j, height, first, last, like)
        here, there = tile + offset + low * row, dtile + offset + low * row
        for _ in range(low, high):
            p = exponential(vload(here, like) - base, like)
            store(here, p)
            store(there, p * (vload(there, like) - mean))
            here += row
            there += row


@jit
def shrink_and_add(acc, added, height, shrink, like):
    """acc[:, q] = shrink[q] · acc[:, q] + added[:, q]."""
    size, step = sizeof(like), lanes(like)
    for j in range(0, TILE, step):
        factor = vload(shrink + j * size, like)
        for i in range(height):
            here = (i * TILE + j) * size
            store(acc + here, vload(acc + here, like) * factor + vload(added + here, like))


# -- dropout --------------------------------------------------------------------------------------

@jit
def mix(x):
    """`reference_attention.mix` on vectors of 32-bit words."""
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return x ^ (x >> 16)


@jit
def hash_positions(target, count, key, like):
    """target[i] = mix(i ^ key) as 32-bit words, for `count` positions rounded up to a tile."""
    for i in range(0, (count + TILE - 1) // TILE * TILE, lanes(like)):
        store(target + 4 * i, mix(ucount(i, like) ^ usplat(key, like)))


@jit
def drop_tile(tile, height, vectors, row_words, column_words, threshold, keep):
    """Zero where mix(row + column) < threshold, times `keep` elsewhere."""
    size, step = sizeof(keep), lanes(keep)
    limit, factor, zero = usplat(threshold, keep), splat(keep), constant(0.0, keep)
    for s in range(height):
        column = usplat(peek_word(column_words + 4 * s), keep)
        for j in range(vectors):
            here = tile + (s * TILE + j * step) * size
            words = mix(uload(row_words + 4 * j * step, keep) + column)
            store(here, select(words >= limit, vload(here, keep) * factor, zero))
