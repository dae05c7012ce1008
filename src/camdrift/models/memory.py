"""Images per pass: as many as are fastest and fit into memory, and half as many whenever it runs out all the same."""

import gc
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Final, TypeVar

import torch

from camdrift.errors import UserError, one_line

_T = TypeVar("_T")

MOST_IMAGES: Final = 256
# Rounds in which a number of images per pass is timed, after one that asks for memory and chooses kernels.
_ROUNDS: Final = 3
_NEAR: Final = 1.05
_SLOWER: Final = 1.1
# Text of the plain RuntimeError of torch's allocator for the processor. It means memory that is refused, not swapped.
_ON_PROCESSOR: Final = "DefaultCPUAllocator: can't allocate memory"


def is_out_of_memory(error: BaseException) -> bool:
    """Does an error say that no memory was left, on whatever device?"""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or _ON_PROCESSOR in str(error)


def fastest_batch(
    compute: Callable[[int], object], most: int = MOST_IMAGES, *, now: Callable[[], float] = perf_counter
) -> int:
    """Return the power of two of images per pass that takes the least time an image, as far as memory lasts.

    Larger passes that gain less than a twentieth are not taken: they need more memory. None is tried beyond one that
    is slower by a tenth.

    Args:
        compute: Computes with so many images per pass, and returns when that is done.
        most: Upper limit.
        now: Tells the time in seconds.

    Returns:
        At least 1, also if even that is too much.
    """
    seconds: dict[int, float] = {}
    size = 1
    while size <= most and (least := _least_seconds(compute, size, now)) is not None:
        seconds[size] = least / size
        if seconds[size] > _SLOWER * min(seconds.values()):
            break
        size *= 2
    fastest = min(seconds.values(), default=0.0)
    return next((size for size, own in seconds.items() if own <= _NEAR * fastest), 1)


def _least_seconds(compute: Callable[[int], object], size: int, now: Callable[[], float]) -> float | None:
    """Seconds of the fastest of some passes; None where memory runs out in one of them, which may be a later one."""
    try:
        compute(size)
        return min(_seconds(compute, size, now) for _ in range(_ROUNDS))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Out here the error is gone, and with it the frames that held its tensors.
    _release()
    return None


def _seconds(compute: Callable[[int], object], size: int, now: Callable[[], float]) -> float:
    start = now()
    compute(size)
    return now() - start


def within_memory(batch_size: int, compute: Callable[[int], _T], tell: Callable[[str], None]) -> tuple[int, _T]:
    """Compute, and begin anew with half as many images per pass whenever memory runs out.

    Args:
        batch_size: Images per pass to begin with.
        compute: Computes with so many images per pass.
        tell: Called with a line about every change.

    Returns:
        Images per pass that fit, and the result of `compute`.

    Raises:
        UserError: A single image is too much.
    """
    while True:
        try:
            return batch_size, compute(batch_size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if batch_size == 1:
                raise UserError(
                    f"`batch_size` 1 needs more memory than there is: {one_line(error)}",
                    "free some memory, or choose fewer --layers or explanations, another --device",
                ) from error
        # Out here the error is gone, and with it the frames that held its tensors.
        _release()
        smaller = batch_size // 2
        tell(f"memory ran out at {batch_size} images per pass: going on with {smaller}")
        batch_size = smaller


def batches(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """Yield the items in order, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
