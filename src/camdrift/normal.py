"""Standard normal numbers by a counter: entry `i` of a stream is a function of the stream and of `i` alone.

So a draw has the same bits on every device, in a batch or alone, with any number of threads, whole or in pieces. Random
words are those of Philox4x32-10 (Salmon et al., SC 2011: "Parallel random numbers: as easy as 1, 2, 3"); they become
normal by the inverse of the distribution function (Wichura 1988, algorithm AS 241, PPND16). Every floating-point
operation is one that IEEE 754 rounds alike everywhere: sum, product and quotient.

What is written here with operators runs on arrays of NumPy, which are faster on a processor, and on tensors of a card.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

# An array of NumPy or a tensor.
Array = Any
FourWords = tuple[Array, Array, Array, Array]

_WORD: Final = 0xFFFFFFFF
_MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
# The steps of the key: the golden ratio and the square root of three, less one.
_STEPS: Final = (0x9E3779B9, 0xBB67AE85)
_ROUNDS: Final = 10
# Numbers that are drawn together: on a processor what its cache holds, on a card what keeps it busy.
_SMALL_PIECE: Final = 2**15
_LARGE_PIECE: Final = 2**19

# Wichura (1988): numerator and denominator, highest power first, around the median, in the tails and far out.
_SPLIT: Final = 0.425
_SPLIT_SQUARE: Final = 0.180625
_FAR: Final = 5.0
_CENTRE: Final = (
    (
        2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
        1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080,
    ),
    (
        5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
        5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0,
    ),
)  # fmt: skip
_TAIL: Final = (
    (
        7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258,
        3.64784832476320460504, 5.76949722146069140550, 4.63033784615654529590, 1.42343711074968357734,
    ),
    (
        1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
        6.89767334985100004550e-1, 1.67638483018380384940, 2.05319162663775882187, 1.0,
    ),
)  # fmt: skip
_FAR_TAIL: Final = (
    (
        2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
        2.96560571828504891230e-1, 1.78482653991729133580, 5.46378491116411436990, 6.65790464350110377720,
    ),
    (
        2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
        1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0,
    ),
)  # fmt: skip
# log(m) = 2 artanh(s) = 2 s (1 + s^2/3 + s^4/5 + ...), s = (m - 1) / (m + 1), for m between sqrt(1/2) and sqrt(2).
_ARTANH: Final = tuple(1 / (2 * power + 1) for power in reversed(range(12)))
_LOG_2: Final = 0.6931471805599453
_SQRT_HALF: Final = 0.7071067811865476
# A line near the square root.
_ROOT: Final = (0.15, 1.3)


def standard_normal(
    streams: Sequence[int], entries: int, *, device: torch.device | str = "cpu", piece: int | None = None
) -> Float[Tensor, "streams entries"]:
    """The first standard normal numbers of some streams, float64, with the same bits whatever is drawn beside them.

    Args:
        streams: Keys of 64 bits, as `streams.stream_seed` makes them.
        entries: Numbers of each.
        device: Where they are drawn and lie.
        piece: Numbers that are drawn together, which bounds the memory; by default what suits the device.
    """
    values = torch.empty((len(streams), entries), dtype=torch.float64, device=device)
    words = [[stream & _WORD for stream in streams], [stream >> 32 & _WORD for stream in streams]]
    keys = _array(torch.tensor(words, dtype=torch.int64, device=device)[..., None])
    target = _array(values)
    piece = piece or piece_on(values.device)
    # Two numbers come of one counter.
    width = max(2, min(entries + entries % 2, piece - piece % 2))
    height = max(1, piece // width)
    for top, left in product(range(0, len(streams), height), range(0, entries, width)):
        part = target[top : top + height, left : left + width]
        blocks = torch.arange(left // 2, left // 2 + (part.shape[1] + 1) // 2, device=device)[None]
        part[:] = normal_quantile(_centred(keys[:, top : top + height], _array(blocks)))[:, : part.shape[1]]
    return values


def piece_on(device: torch.device) -> int:
    """The number of entries that are best drawn together on a device."""
    return _SMALL_PIECE if device.type == "cpu" else _LARGE_PIECE


def row_moments(rows: Float[Tensor, "rows entries"]) -> tuple[Float[Tensor, "rows 1"], Float[Tensor, "rows 1"]]:
    """Mean and standard deviation of every row, float64, added up in one order on every device."""
    values = _array(rows.detach().double())
    n = _space(values).full_like(values[:, :1], values.shape[1])
    mean = _sum(values) / n
    deviations = values - mean
    deviations *= deviations
    variance = _sum(deviations) / n
    return torch.as_tensor(mean), torch.as_tensor(_space(variance).sqrt(variance))


def _sum(values: Array) -> Array:
    """The sum of every row, (rows, 1): one half of it onto the other, again and again."""
    while (n := values.shape[1]) > 1:
        half = n // 2
        total = values[:, :half] + values[:, half : 2 * half]
        if n % 2:
            total[:, :1] += values[:, -1:]
        values = total
    return values


def _array(tensor: Tensor) -> Array:
    """A tensor; on a processor as an array of NumPy in the same memory."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def _space(array: Array) -> Any:
    return np if isinstance(array, np.ndarray) else torch


def _centred(keys: Array, blocks: Array) -> Array:
    """Uniform numbers less one half, odd multiples of 2^-53, (keys, 2 * blocks): two from each block of a key."""
    zero = 0 * blocks[:, :1]
    words = philox((blocks & _WORD, blocks >> 32, zero, zero), (keys[0], keys[1]))
    # Of 64 bits with a sign the upper 52: from -2^51 up.
    pairs = [((high << 32) | low) >> 12 for high, low in (words[:2], words[2:])]
    space = _space(blocks)
    numbers = space.asarray(space.stack(pairs, -1).reshape(len(keys[0]), -1), dtype=space.float64)
    numbers += 0.5
    numbers *= 2.0**-52
    return numbers


def philox(counter: FourWords, key: tuple[Array, Array]) -> FourWords:
    """Four random words of 32 bits for a counter and a key (Philox4x32-10, Salmon et al. 2011).

    Args:
        counter: Four words of 32 bits, each an array of int64; shapes go together by broadcasting, also with the key's.
        key: Two words of 32 bits, int64.
    """
    a, b, c, d = counter
    for step in range(_ROUNDS):
        # Products of 64 bits. What reaches their sign, and what a key has beyond its word, is masked at the end.
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a = (second >> 32) ^ (b ^ (key[0] + step * _STEPS[0]))
        c = (first >> 32) ^ (d ^ (key[1] + step * _STEPS[1]))
        a &= _WORD
        c &= _WORD
        b, d = second, first
    return a, b & _WORD, c, d & _WORD


def normal_quantile(centred: Array) -> Array:
    """The quantiles of the standard normal distribution at 1/2 + `centred`, to about one part in 10^15.

    Algorithm AS 241, PPND16 (Wichura 1988, Applied Statistics 37, 477-484). It takes the probability less one half, so
    that the upper tail is as exact as the lower one.

    Args:
        centred: Probability less one half, float64, between -1/2 and 1/2, both excluded.
    """
    space, flat = _space(centred), centred.reshape(-1)
    values = _ratio(_SPLIT_SQUARE - flat * flat, _CENTRE)
    values *= flat
    (places,) = space.where(space.abs(flat) > _SPLIT)
    tails = flat[places]
    depth = _root(_minus_log(0.5 - space.abs(tails)))
    quantiles = _ratio(depth - 1.6, _TAIL)
    (far,) = space.where(depth > _FAR)
    if len(far):
        quantiles[far] = _ratio(depth[far] - _FAR, _FAR_TAIL)
    values[places] = space.where(tails < 0, -quantiles, quantiles)
    return values.reshape(centred.shape)


def _ratio(x: Array, polynomials: tuple[Sequence[float], Sequence[float]]) -> Array:
    value = _polynomial(x, polynomials[0])
    value /= _polynomial(x, polynomials[1])
    return value


def _polynomial(x: Array, coefficients: Sequence[float]) -> Array:
    """The polynomial by Horner's rule, every product and sum rounded."""
    value = x * coefficients[0]
    for coefficient in coefficients[1:-1]:
        value += coefficient
        value *= x
    value += coefficients[-1]
    return value


def _minus_log(x: Array) -> Array:
    """The natural logarithm of positive numbers, its sign changed."""
    space = _space(x)
    fraction, exponent = space.frexp(x)
    is_low = fraction < _SQRT_HALF
    fraction = space.where(is_low, 2 * fraction, fraction)
    exponent = space.where(is_low, exponent - 1, exponent)
    s = (fraction - 1) / (fraction + 1)
    return -(_polynomial(s * s, _ARTANH) * (2 * s) + exponent * space.full_like(x, _LOG_2))


def _root(x: Array) -> Array:
    """The square root of numbers from 2 to 40, by Newton's method: torch's own is not rounded alike everywhere."""
    # At most 0.15 off; each step halves the square of the relative error, and the fourth leaves the rounding alone.
    root = _polynomial(x, _ROOT)
    for _ in range(4):
        root = 0.5 * (root + x / root)
    return root
