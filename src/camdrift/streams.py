"""Random streams: one per seed image and purpose. Batch, order and device change no draw."""

from hashlib import sha256


def stream_seed(rng_seed: int, seed_id: str, purpose: str) -> int:
    """Return a 63-bit seed for the random stream of one seed image and purpose.

    Args:
        rng_seed: Seed of the study.
        seed_id: Name of the seed image.
        purpose: Name of the stream's purpose, such as `noise 0`.

    Example:
        >>> stream_seed(0, "cat.png", "attack") == stream_seed(0, "cat.png", "noise 0")
        False
    """
    digest = sha256(f"{rng_seed}\0{purpose}\0{seed_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
