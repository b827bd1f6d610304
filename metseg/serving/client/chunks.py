"""A large volume in requests of bounded size, whose answers put together are those of one request, to the last bit.

The served graph takes slices through the network in blocks. A chunk begins where a block of the whole volume begins,
so every slice meets the network in the company that it would have in one request; what differs are the neighbours of
a chunk's outermost slices, and those slices are taken from the chunk beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

BLOCK = 8
"""Slices that the exported graph takes through the network at once (`metseg.training.loop.INFERENCE_BLOCK`)."""


@dataclass(frozen=True)
class Chunk:
    """Slices `start` to `stop` are sent, and the answer is kept for `first` to `last`; ends are exclusive."""

    start: int
    stop: int
    first: int
    last: int

    @property
    def kept(self) -> slice:
        """The kept slices within the answer."""
        return slice(self.first - self.start, self.last - self.start)


def chunks_of(slices: int, slice_bytes: int, context: int, limit: int) -> list[Chunk]:
    """Cut a volume so that no request holds more than `limit` bytes of voxels, or the fewest that a chunk can have.

    Args:
        slices: of the volume.
        slice_bytes: bytes of one of them as it is sent.
        context: neighbours on either side that a slice is judged with.
        limit: most bytes of a chunk.

    Returns:
        Chunks whose kept slices are the volume, each once, in order. They overlap by at least twice the context.
    """
    if slices * slice_bytes <= limit:
        return [Chunk(0, slices, 0, slices)]
    overlap = -(-2 * context // BLOCK) * BLOCK
    length = max(limit // slice_bytes // BLOCK * BLOCK, overlap + BLOCK)
    found: list[Chunk] = []
    start, first = 0, 0
    while start + length < slices:
        last = start + length - context
        found.append(Chunk(start, start + length, first, last))
        start, first = start + length - overlap, last
    return [*found, Chunk(start, slices, first, slices)]
