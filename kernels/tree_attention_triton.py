"""tree_attention on CUDA: two kernels. The first attends to an item's pages for each key head, the second joins a
tile's items in the order of their pages.

Keys and values are read where the pool has them, each once for all queries of a tile. Programs take items until none is
left, so one launch of a fixed size (a CUDA graph's) serves any plan. tree_attention_launch.py starts them. Imports
Triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

from edgespec.kernels.scores_triton import add_product, soft_capped

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=["row_words", "share", "kv_heads", "scale", "softcap"])
def tree_attention_parts(
    query,  # [R, H, d]
    keys,  # [G, S, d], of the queries' type or 8-bit floats
    values,  # [G, S, v], of the keys' type
    pages,  # int32 [P]
    words,  # int32 [R, W]
    items,  # int32 [I, 5]
    counts,  # int32 [2]: items, tiles
    sums,  # float32 [I, G, Q, v], out: sums of exp(score - top) times values
    tops,  # float32 [I, G, Q, 2], out: the top score over ln 2, and the sum of exp(score - top)
    row_words,  # W
    pool_slots,  # S
    share,  # H / G
    kv_heads,  # G
    key_width,  # d
    value_width,  # v
    tile_queries,  # Q
    scale,  # factor on the scores
    softcap,  # 0: none
    QUERIES: tl.constexpr,  # Q or more, a power of 2
    WIDTH: tl.constexpr,  # d and v or more, a power of 2
    SLOTS: tl.constexpr,  # of a page that are read at once
    PAGE: tl.constexpr,  # slots of a page
):
    place = tl.arange(0, QUERIES)
    column = tl.arange(0, WIDTH)
    jobs = tl.load(counts) * kv_heads
    for job in range(tl.program_id(0), jobs, tl.num_programs(0)):
        group = job % kv_heads
        about = items + job // kv_heads * 5
        first = tl.load(about)
        first_page = tl.load(about + 2)
        first_word = tl.load(about + 4) * (PAGE // 32)
        real = (place < tile_queries) & (first + place < tl.load(about + 1))
        row = (first + place) // share
        head = group * share + (first + place) % share
        at = (row * kv_heads * share + head) * key_width
        wanted = real[:, None] & (column < key_width)[None, :]
        q = tl.load(query + at[:, None] + column[None, :], wanted, 0.0)
        own_pool = group.to(tl.int64) * pool_slots
        top, total, gathered = _attend(
            q, keys + own_pool * key_width, values + own_pool * value_width, pages + first_page,
            words + row * row_words + first_word, real, tl.load(about + 3), key_width, value_width, scale, softcap,
            QUERIES, WIDTH, SLOTS, PAGE,
        )  # fmt: skip
        to = job * tile_queries + place
        kept = real[:, None] & (column < value_width)[None, :]
        tl.store(sums + to[:, None] * value_width + column[None, :], gathered, kept)
        tl.store(tops + to * 2, top, real)
        tl.store(tops + to * 2 + 1, total, real)


@triton.jit
def _attend(
    q, keys, values, pages, words, real, count, key_width, value_width, scale, softcap,
    QUERIES: tl.constexpr, WIDTH: tl.constexpr, SLOTS: tl.constexpr, PAGE: tl.constexpr,
):  # fmt: skip
    """(top, total, gathered) of queries [QUERIES, WIDTH] over an item's `count` pages; keys, values: of its key head,
    words: of each query."""
    column = tl.arange(0, WIDTH)
    near = tl.arange(0, SLOTS)
    blocks = PAGE // SLOTS
    top = tl.full((QUERIES,), float("-inf"), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    gathered = tl.zeros((QUERIES, WIDTH), tl.float32)
    for block in range(0, count * blocks):
        page = tl.load(pages + block // blocks)
        inside = (block % blocks) * SLOTS + near
        slot = page.to(tl.int64) * PAGE + inside
        k = _rows(keys, slot, column, key_width).to(q.dtype)
        v = _rows(values, slot, column, value_width).to(q.dtype)
        low = tl.load(words + block // blocks * 2, real, 0)
        high = tl.load(words + block // blocks * 2 + 1, real, 0)
        scores = add_product(tl.zeros((QUERIES, SLOTS), tl.float32), q, tl.trans(k)) * scale
        scores = soft_capped(scores, softcap)
        scores = tl.where(_seen(low, high, inside), scores * LOG2_E, float("-inf"))
        top, total, gathered = _gather(top, total, gathered, scores, v)
    return top, total, gathered


@triton.jit
def _rows(pool, slot, column, width):
    """Keys or values [SLOTS, WIDTH] of these slots of the pool."""
    return tl.load(pool + (slot[:, None] * width + column[None, :]), (column < width)[None, :], 0.0)


@triton.jit
def _seen(low, high, inside):
    """Which slots `inside` a page each query sees, [QUERIES, SLOTS]; low, high: the query's words of the page."""
    word = tl.where((inside < 32)[None, :], low[:, None], high[:, None])
    return ((word >> (inside & 31)[None, :]) & 1) != 0


@triton.jit
def _gather(top, total, gathered, scores, values):
    """The softmax so far, rescaled to its new top, with these scores [QUERIES, SLOTS] over ln 2 and values."""
    new_top = tl.maximum(top, tl.max(scores, 1))
    base = tl.where(new_top == float("-inf"), 0.0, new_top)
    weights = tl.exp2(scores - base[:, None])
    shrink = tl.exp2(top - base)
    total = total * shrink + tl.sum(weights, 1)
    gathered = add_product(gathered * shrink[:, None], weights.to(values.dtype), values)
    return new_top, total, gathered


@triton.jit(do_not_specialize=["share", "kv_heads"])
def tree_attention_join(
    sums,  # float32 [I, G, Q, v]
    tops,  # float32 [I, G, Q, 2]
    sinks,  # float32 [H]: a score beside those of the slots, -inf for none
    tiles,  # int32 [T, 4]
    counts,  # int32 [2]: items, tiles
    output,  # [R, H, v], out
    share,  # H / G
    kv_heads,  # G
    value_width,  # v
    tile_queries,  # Q
    WIDTH: tl.constexpr,  # v or more, a power of 2
    JOINED: tl.constexpr,  # queries of a program
):
    place = tl.arange(0, JOINED)
    column = tl.arange(0, WIDTH)
    pieces = tl.cdiv(tile_queries, JOINED)
    jobs = tl.load(counts + 1) * kv_heads * pieces
    for job in range(tl.program_id(0), jobs, tl.num_programs(0)):
        piece = job % pieces
        group = job // pieces % kv_heads
        about = tiles + job // pieces // kv_heads * 4
        own = piece * JOINED + place
        query = tl.load(about) + own
        real = (own < tile_queries) & (query < tl.load(about + 1))
        head = group * share + query % share
        top = tl.load(sinks + head, real, float("-inf")) * LOG2_E
        total = tl.where(top == float("-inf"), 0.0, 1.0)
        gathered = tl.zeros((JOINED, WIDTH), tl.float32)
        kept = real[:, None] & (column < value_width)[None, :]
        first_item = tl.load(about + 2)
        for split in range(0, tl.load(about + 3)):
            at = ((first_item + split) * kv_heads + group) * tile_queries + own
            part = tl.load(sums + at[:, None] * value_width + column[None, :], kept, 0.0)
            part_top = tl.load(tops + at * 2, real, float("-inf"))
            part_total = tl.load(tops + at * 2 + 1, real, 0.0)
            new_top = tl.maximum(top, part_top)
            base = tl.where(new_top == float("-inf"), 0.0, new_top)
            shrink = tl.exp2(top - base)
            own_shrink = tl.exp2(part_top - base)
            total = total * shrink + part_total * own_shrink
            gathered = gathered * shrink[:, None] + part * own_shrink[:, None]
            top = new_top
        result = gathered / tl.where(total == 0.0, 1.0, total)[:, None]
        to = (query // share * kv_heads * share + head) * value_width
        tl.store(output + to[:, None] + column[None, :], result.to(output.dtype.element_ty), kept)
