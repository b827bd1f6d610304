"""Channel and case of a file, from its name."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from metseg.imaging.io import bare_stem

DEFAULT_CHANNELS = ("t1n", "t2f", "t1c")
"""Channels of the layouts with named channels, so that their models compare: native T1, FLAIR, T1 with contrast."""

MASK = "seg"
"""Channel of a mask file."""

_ENDING = re.compile(r"(?:(?P<case>.*)[-_. ])?(?P<ending>[A-Za-z][A-Za-z0-9]*)")
_MASK_ENDING = re.compile(r"(seg|segmentation|mask|label)s?", re.IGNORECASE)
_MASK_WORDS = r"(masks?|seg|segmentations?|labels?|labelmap|lesions?|tumou?rs?|gt|ground[-_]?truth)"
_LESION_MASK = re.compile(
    rf"((lesions?|tumou?rs?|mets?|metastas[ei]s|segmentation)[-_. ]?)?{_MASK_WORDS}", re.IGNORECASE
)


class ChannelName(NamedTuple):
    """The parts of a file name.

    Attributes:
        case: the name before the channel; empty if the channel is the whole name.
        channel: one of the known channels, or `MASK`; None for any other name.
        ending: the last word of the name as written; empty if it is a number.
    """

    case: str
    channel: str | None
    ending: str


def channel_name(file: Path | str, known: Collection[str] = ()) -> ChannelName:
    """Return the channel at the end of a name, after `-`, `_`, `.` or blank.

    Args:
        file: its path or name.
        known: names of channels; upper and lower case are equal.

    >>> channel_name("scans/p1-T1c.nii.gz", ("t1n", "t1c"))
    ChannelName(case='p1', channel='t1c', ending='T1c')
    >>> channel_name("p1_seg.nrrd").channel, channel_name("p1_12.png", ("t1c",)).channel
    ('seg', None)
    """
    stem = bare_stem(Path(file))
    match = _ENDING.fullmatch(stem)
    if match is None:
        return ChannelName(stem, None, "")
    case, ending = match["case"] or "", match["ending"]
    channel = {name.lower(): name for name in known}.get(ending.lower())
    if channel is None and _MASK_ENDING.fullmatch(ending):
        channel = MASK
    return ChannelName(case, channel, ending)


def is_lesion_mask(word: str) -> bool:
    """Return True if a whole name denotes a lesion mask; a `brain_mask` is none.

    >>> [is_lesion_mask(word) for word in ("seg", "lesion_mask", "Ground-Truth", "brain_mask")]
    [True, True, True, False]
    """
    return _LESION_MASK.fullmatch(word) is not None
