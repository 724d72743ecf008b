"""A decoder layer's small steps on CUDA, each one kernel: residual and norm, rotary and cache, gate and up.

They round where transformers' modules round: after each product and sum, with norms in float32. layer_launch.py starts
them. Imports Triton.
"""

from __future__ import annotations

import triton
import triton.language as tl

from edgespec.kernels import arguments

FLOAT8_MOST, FLOAT8_LEAST = tl.constexpr(arguments.FLOAT8_MOST), tl.constexpr(arguments.FLOAT8_LEAST)


@triton.jit
def normalised(h, weight, square, epsilon, unit):
    """float32 h over the root of its mean square, by the weight; unit 1: by 1 + weight, rounded once (Gemma)."""
    scaled = h.to(tl.float32) * tl.rsqrt(square + epsilon)
    scaled = tl.where(unit != 0, scaled, scaled.to(h.dtype).to(tl.float32))
    return (scaled * (weight.to(tl.float32) + unit)).to(h.dtype)


@triton.jit(do_not_specialize=["add", "post", "unit", "epsilon"])
def residual_norm(
    added,  # [R, D]: what is added to the residual; not read where `add` is 0
    residual,  # [R, D]
    post_weight,  # [D]: `added` is normalised by it first; not read where `post` is 0
    weight,  # [D]
    summed,  # [R, D], out: the new residual, where `add` is not 0
    normed,  # [R, D], out
    width,  # D
    add,
    post,
    unit,  # 1: weights are 1 + weight
    epsilon,
    BLOCK: tl.constexpr,  # D or more, a power of 2
):
    column = tl.arange(0, BLOCK)
    real = column < width
    at = tl.program_id(0).to(tl.int64) * width + column
    h = tl.load(residual + at, real, 0.0)
    if add != 0:
        y = tl.load(added + at, real, 0.0)
        if post != 0:
            square = tl.sum(y.to(tl.float32) * y.to(tl.float32), 0) / width
            y = normalised(y, tl.load(post_weight + column, real, 0.0), square, epsilon, unit)
        h = (h.to(tl.float32) + y.to(tl.float32)).to(h.dtype)
        tl.store(summed + at, h, real)
    square = tl.sum(h.to(tl.float32) * h.to(tl.float32), 0) / width
    tl.store(normed + at, normalised(h, tl.load(weight + column, real, 0.0), square, epsilon, unit), real)


@triton.jit
def rounded_product(x, factors, inside):
    """x by what lies at `factors`, rounded to its type, as float32."""
    return (x.to(tl.float32) * tl.load(factors, inside, 0.0).to(tl.float32)).to(x.dtype).to(tl.float32)


@triton.jit
def _turned(x, y, cosine, sine, half, inside):
    """Both halves of heads, turned to their positions."""
    first = rounded_product(x, cosine, inside) - rounded_product(y, sine, inside)
    second = rounded_product(y, cosine + half, inside) + rounded_product(x, sine + half, inside)
    return first.to(x.dtype), second.to(x.dtype)


@triton.jit
def _store_halves(to, half, first, second, where):
    tl.store(to, first, where)
    tl.store(to + half, second, where)


@triton.jit
def _in_type_of(x, pool):
    """x as the pool keeps it. 8-bit floats are rounded here, to nearest with ties to even, so that the conversion has
    nothing to round: the interpreter's would round otherwise."""
    if pool.dtype.element_ty == tl.float8e4nv:
        wide = tl.clamp(x.to(tl.float32), -FLOAT8_MOST, FLOAT8_MOST, propagate_nan=tl.PropagateNan.ALL)
        power = (wide.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
        large = 1.5 * 1048576.0 * tl.maximum(power, FLOAT8_LEAST)  # whose last bit is an eighth of the power
        x = (wide + large) - large
    return x.to(pool.dtype.element_ty)


@triton.jit
def _square_sums(heads):
    """Of each head's elements, [heads, 1]."""
    wide = heads.to(tl.float32)
    return tl.sum(wide * wide, 1)[:, None]


@triton.jit(do_not_specialize=["heads", "kv_heads", "norms", "unit", "epsilon"])
def rotary_write(
    qkv,  # [R, (H + 2 G) d]
    cosines,  # [R, d]
    sines,  # [R, d]
    slots,  # int64 [R]: of the pool
    query_norm,  # [d]; not read where `norms` is 0
    key_norm,  # [d]; the same
    query,  # [R, H, d], out
    keys,  # [G, S, d], out: the rows' slots; of the rows' type or 8-bit floats
    values,  # [G, S, d], out: the rows' slots
    heads,  # H
    kv_heads,  # G
    width,  # d
    pool_slots,  # S
    norms,  # queries and keys are normalised
    unit,  # 1: weights are 1 + weight
    epsilon,
    HALF: tl.constexpr,  # d / 2 or more, a power of 2
    PARTS: tl.constexpr,  # heads of a program
):
    parts = heads + 2 * kv_heads
    pieces = tl.cdiv(parts, PARTS)
    row = tl.program_id(0) // pieces
    part = tl.program_id(0) % pieces * PARTS + tl.arange(0, PARTS)[:, None]
    half = width // 2
    lane = tl.arange(0, HALF)[None, :]
    inside = lane < half
    real = (part < parts) & inside
    source = qkv + (row.to(tl.int64) * parts + part) * width + lane
    a = tl.load(source, real, 0.0)
    b = tl.load(source + half, real, 0.0)
    asks = part < heads  # a query
    turns = part < heads + kv_heads  # a query or a key
    x, y = a, b
    if norms != 0:
        square = _square_sums(a) + _square_sums(b)
        w_a = tl.where(asks, tl.load(query_norm + lane, inside, 0.0), tl.load(key_norm + lane, inside, 0.0))
        at = half + lane
        w_b = tl.where(asks, tl.load(query_norm + at, inside, 0.0), tl.load(key_norm + at, inside, 0.0))
        x = normalised(a, w_a, square / width, epsilon, unit)
        y = normalised(b, w_b, square / width, epsilon, unit)
    turn = row * width + lane
    first, second = _turned(x, y, cosines + turn, sines + turn, half, inside)
    to = query + (row.to(tl.int64) * heads + part) * width + lane
    _store_halves(to, half, first, second, real & asks)
    slot = tl.load(slots + row)
    to = keys + ((part - heads) * pool_slots.to(tl.int64) + slot) * width + lane
    _store_halves(to, half, _in_type_of(first, keys), _in_type_of(second, keys), real & turns & ~asks)
    to = values + ((part - heads - kv_heads) * pool_slots.to(tl.int64) + slot) * width + lane
    _store_halves(to, half, _in_type_of(a, values), _in_type_of(b, values), real & ~turns)


@triton.jit(do_not_specialize=["gelu"])
def gated(
    gate_up,  # [R, 2 F]
    product,  # [R, F], out
    width,  # F
    gelu,  # 0: silu, else the tanh form of gelu
    BLOCK: tl.constexpr,  # columns of a program
):
    blocks = tl.cdiv(width, BLOCK)
    row = tl.program_id(0) // blocks
    column = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    real = column < width
    source = gate_up + row.to(tl.int64) * 2 * width + column
    gate = tl.load(source, real, 0.0)
    g = gate.to(tl.float32)
    if gelu != 0:
        z = 0.7978845608028654 * (g + 0.044715 * g * g * g)
        small = tl.exp(-2.0 * tl.abs(z))
        tanh = tl.where(z < 0, -1.0, 1.0) * (1.0 - small) / (1.0 + small)
        active = 0.5 * g * (1.0 + tanh)
    else:
        active = g / (1.0 + tl.exp(-g))
    up = tl.load(source + width, real, 0.0).to(tl.float32)
    result = (active.to(gate.dtype).to(tl.float32) * up).to(gate.dtype)
    tl.store(product + row.to(tl.int64) * width + column, result, real)
