"""What the pods of the pipeline need from their namespace; the compiled pipeline says it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A Secret or ConfigMap that pods read.

    Attributes:
        name: of the object.
        keys: that are read.
        variables: environment variable that each of `keys` becomes; empty where it is mounted as a file.
        optional: whether pods start without it.
    """

    name: str
    keys: tuple[str, ...]
    variables: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class PipelineNeeds:
    """Needs of all pods of the pipeline together.

    Attributes:
        config_maps: ConfigMaps; one name may occur twice, with required and with optional keys.
        secrets: Secrets.
        claims: PersistentVolumeClaims.
        images: that the pods run in.
        labels: that all pods carry, by which network policies select them.
        user: number of the user that the pods run as; None: the image's, or the namespace's.
        group: likewise.
    """

    config_maps: tuple[Source, ...]
    secrets: tuple[Source, ...]
    claims: tuple[str, ...]
    images: tuple[str, ...]
    labels: dict[str, str]
    user: int | None
    group: int | None

    def image(self, name: str) -> str:
        """Return the image whose name, without registry and tag, is `name`; raises KeyError."""
        for image in self.images:
            if image.rpartition("/")[2].partition("@")[0].partition(":")[0] == name:
                return image
        raise KeyError(name)
