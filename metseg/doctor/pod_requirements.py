"""Objects that the pods of the pipeline need in their namespace.

The compiled pipeline names the objects; `metseg.process_environment` lists the keys that steps read as files.
"""

from __future__ import annotations

from dataclasses import dataclass

from metseg.process_environment import MOUNTED_SECRETS
from metseg.settings import REQUIRED_IN_POD


@dataclass(frozen=True)
class Source:
    """A Secret or ConfigMap that pods read.

    Attributes:
        name: of the object.
        keys: that are read.
        variables: environment variable that each of `keys` becomes, in the pod or in the step that reads the file.
        optional: whether runs can do without it.
    """

    name: str
    keys: tuple[str, ...]
    variables: tuple[str, ...] = ()
    optional: bool = False


SETTINGS = "settings"
"""Folder of mounted files that are named after the variables they set."""
OPTIONAL = ("METSEG_S3_ENDPOINT_URL", "METSEG_S3_REGION", "METSEG_KUBEFLOW_URL", "METSEG_MLFLOW_URL")
"""Settings that some clusters do not need."""


def mounted(name: str, folder: str, optional: bool) -> tuple[Source, ...]:
    """Return the keys that a step reads of a mounted object.

    Args:
        name: of the Secret or ConfigMap.
        folder: where it is mounted, below `metseg.process_environment.MOUNTED`.
        optional: whether pods start without it.
    """
    if folder == SETTINGS:
        return (
            Source(name, REQUIRED_IN_POD, REQUIRED_IN_POD),
            Source(name, OPTIONAL, OPTIONAL, optional=True),
        )
    files = {file.partition("/")[2]: name for file, name in MOUNTED_SECRETS.items() if file.startswith(f"{folder}/")}
    return (Source(name, tuple(files), tuple(files.values()), optional),)


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
        return {image.rpartition("/")[2].partition("@")[0].partition(":")[0]: image for image in self.images}[name]
