"""Channel of an MR series, from its sequence parameters and its description.

The description is compared with patterns and never recorded: it is free text, and may contain a name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pydicom.dataset import Dataset

CHANNELS = ("t1n", "t1c", "t2f", "t2w")
NO_CHANNEL = "no channel"
"""Description of a series of none of them in a de-identified copy; there, the others' is their channel."""

_NO_ANATOMY = re.compile(
    rf"{NO_CHANNEL}|loc(ali[sz]er)?\b|scout|survey|3.?plane|dwi|diff|adc|trace|b-?value|swi\b|swan|perf|dsc\b|dce\b"
    r"|asl\b|rcbv|bold|fmri|tof\b|angio|mra\b|mip\b|subtr"
)
NO_ANATOMY_TYPES = {
    "LOCALIZER", "ADC", "DIFFUSION", "TRACEW", "FA", "PERFUSION", "ASL", "PROJECTION IMAGE", "MIP", "SUBTRACT",
}  # fmt: skip
_FLAIR = re.compile(r"flair|dark.?fluid|(?<![a-z0-9])t2f(?![a-z0-9])")
_T1 = re.compile(r"(?<![a-z0-9])t1|mp-?rage|bravo|spgr|vibe|tfl")
_T2 = re.compile(r"(?<![a-z0-9])t2(?!\s*(\*|star|_star|gre))")
_CONTRAST = re.compile(r"post|gado|contrast|\+\s*c(?![a-z])|(?<![a-z])c\s*\+|(?<![a-z])(gd|ce|km|mdc)(?![a-z])|t1c")
_NATIVE = re.compile(
    r"(?<![a-z])pre(?![a-z])|without|w/o|non.?contrast|nativ|unenhanced|(?<![a-z])no\s+(gd|contrast)|t1n"
)
_NO_AGENT = {"", "no", "none", "n", "n/a", "na", "without", "unknown", "0"}


@dataclass(frozen=True)
class Acquisition:
    """Sequence parameters that decide the channel of a series.

    Times are in ms, and None if the header has none.

    Attributes:
        description: SeriesDescription, ProtocolName and SequenceName, in small letters. Never in a message.
        types: values of ImageType.
        echo, repetition, inversion: times in ms.
        gradient_echo: whether ScanningSequence has GR and neither SE nor IR.
        agent: whether the header names a contrast agent.
    """

    description: str = ""
    types: frozenset[str] = frozenset()
    echo: float | None = None
    repetition: float | None = None
    inversion: float | None = None
    gradient_echo: bool = False
    agent: bool = False


def acquisition_of(dataset: Dataset) -> Acquisition:
    """Read an `Acquisition` from a header, of an MR image or an enhanced MR image.

    Example:
        >>> header = Dataset()
        >>> header.SeriesDescription, header.EchoTime, header.ContrastBolusAgent = "Ax T1 MPRAGE", 3.5, "Gadobutrol"
        >>> taken = acquisition_of(header)
        >>> taken.description.strip(), taken.echo, taken.agent
        ('ax t1 mprage', 3.5, True)
    """
    groups = list(dataset.get("SharedFunctionalGroupsSequence") or ())
    groups += list(dataset.get("PerFrameFunctionalGroupsSequence") or ())[:1]
    scanning = dataset.get("ScanningSequence") or ()
    names = {name.upper() for name in ([scanning] if isinstance(scanning, str) else scanning)}
    described = (str(dataset.get(name) or "") for name in ("SeriesDescription", "ProtocolName", "SequenceName"))
    return Acquisition(
        description=" ".join(described).lower(),
        types=frozenset(str(value).upper() for value in dataset.get("ImageType") or ()),
        echo=_time(dataset, "EchoTime", groups, "MREchoSequence", "EffectiveEchoTime"),
        repetition=_time(dataset, "RepetitionTime", groups, "MRTimingAndRelatedParametersSequence", "RepetitionTime"),
        inversion=_time(dataset, "InversionTime", groups, "MRModifierSequence", "InversionTimes"),
        gradient_echo="GR" in names and not names & {"SE", "IR"},
        agent=is_agent(str(dataset.get("ContrastBolusAgent") or "")) or bool(dataset.get("ContrastBolusAgentSequence")),
    )


def is_agent(text: str) -> bool:
    """Return whether the text of ContrastBolusAgent names an agent, and does not deny one.

    Example:
        >>> [is_agent(text) for text in ("Gadobutrol 7 ml", "None", "")]
        [True, False, False]
    """
    return text.strip().lower() not in _NO_AGENT


def _time(dataset: Dataset, plain: str, groups: list[Any], sequence: str, nested: str) -> float | None:
    """Return a time in ms of a plain or an enhanced image."""
    values = [dataset.get(plain)]
    values += [item.get(nested) for group in groups for item in group.get(sequence) or ()]
    for value in values:
        if value is not None and value != "":
            first = value if isinstance(value, int | float) else (value if isinstance(value, str) else value[0])
            return float(first)
    return None


def channel_of(taken: Acquisition) -> str | None:
    """Return the channel of a series, or None for any other series.

    The rules apply in this order:

    1. localisers, diffusion, perfusion, angiography, projections and differences are none;
    2. `t2f`: the description has FLAIR (or dark fluid, or t2f) and not T1, or the inversion time is at least 1500 ms
       and the echo time at least 60 ms;
    3. T1: the description has T1, MPRAGE, BRAVO, SPGR or VIBE, or neither T1 nor T2, the echo time is at most 30 ms
       (12 ms of a gradient echo, for longer ones weigh iron), and the repetition time is below 1000 ms or the inversion
       time between 500 and 1500 ms. It is `t1n` if the description has pre or without; else `t1c` if a contrast agent
       is named or the description has post; else `t1n`;
    4. `t2w`: the description has T2 (but not T2*), or neither, and echo and repetition time are at least 70 and
       2000 ms; a gradient echo is none.

    Example:
        >>> flair = Acquisition(echo=110.0, repetition=9000.0, inversion=2500.0)
        >>> [channel_of(taken) for taken in (Acquisition("ax t1 mprage +c"), flair, Acquisition("3-plane localizer"))]
        ['t1c', 't2f', None]
    """
    text, echo, repetition, inversion = taken.description, taken.echo, taken.repetition, taken.inversion
    if _NO_ANATOMY.search(text) or taken.types & NO_ANATOMY_TYPES:
        return None
    says_t1, says_t2 = bool(_T1.search(text)), bool(_T2.search(text))
    silent = not says_t1 and not says_t2
    long_inversion = inversion is not None and inversion >= 1500 and echo is not None and echo >= 60
    if (_FLAIR.search(text) and not says_t1) or (long_inversion and not says_t1):
        return "t2f"
    short = echo is not None and echo <= (12 if taken.gradient_echo else 30)
    fast = (repetition is not None and repetition < 1000) or (inversion is not None and 500 <= inversion < 1500)
    if says_t1 or (silent and short and fast):
        if _NATIVE.search(text):
            return "t1n"
        return "t1c" if taken.agent or _CONTRAST.search(text) else "t1n"
    late = echo is not None and echo >= 70 and repetition is not None and repetition >= 2000
    return "t2w" if (says_t2 or (silent and late)) and not taken.gradient_echo else None


def matches(taken: Acquisition, pattern: str) -> bool:
    """Return True if the description matches a shell pattern (`*post*`), ignoring case.

    Example:
        >>> matches(Acquisition("ax t1 post gd"), "*Post*"), matches(Acquisition("ax t1 pre"), "*Post*")
        (True, False)
    """
    return fnmatchcase(taken.description, f"*{pattern.lower()}*")
