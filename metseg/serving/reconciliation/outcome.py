"""How an attempt to bring serving to what the registry asks for can end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from metseg.errors import MetsegError


class Unreachable(MetsegError):
    """Registry, model server or shared folder do not answer now; the version is not to blame, trying again may help."""


class Refused(MetsegError):
    """A version that is not to be served; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """What is served of one model after a turn.

    Attributes:
        name: the model.
        labels: version of each label.
        versions: versions that are loaded, rising.
        complaints: why what the registry asks for is not served; none where all is as asked.
    """

    name: str
    labels: Mapping[str, int] = field(default_factory=dict)
    versions: tuple[int, ...] = ()
    complaints: tuple[str, ...] = ()

    def __str__(self) -> str:
        labels = ", ".join(f"{label} → {version}" for label, version in sorted(self.labels.items(), reverse=True))
        loaded = ", ".join(map(str, self.versions))
        served = f"{labels or 'no label'}; loaded: {loaded}" if self.versions else "nothing is served"
        return "; ".join((f"{self.name}: {served}", *self.complaints))
