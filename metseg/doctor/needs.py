"""What the pods of the pipeline need from their namespace.

The compiled pipeline names the objects; of those that pods mount as files it does not name the keys, which are here.
"""

from __future__ import annotations

from dataclasses import dataclass


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


def _same(name: str, *keys: str, optional: bool = False) -> Source:
    return Source(name, keys, keys, optional)


MOUNTED = (
    _same("metseg-settings", "METSEG_MLFLOW_TRACKING_URI", "METSEG_MODEL_SERVER", "METSEG_RECONCILER"),
    _same(
        "metseg-settings",
        "METSEG_S3_ENDPOINT_URL",
        "METSEG_S3_REGION",
        "METSEG_KUBEFLOW_URL",
        "METSEG_MLFLOW_URL",
        "METSEG_PSEUDONYMS",
        optional=True,
    ),
    Source(
        "metseg-mlflow-client",
        ("username", "password"),
        ("METSEG_MLFLOW_USERNAME", "METSEG_MLFLOW_PASSWORD"),
        optional=True,
    ),
    Source(
        "metseg-storage",
        ("access-key-id", "secret-access-key"),
        ("METSEG_S3_ACCESS_KEY_ID", "METSEG_S3_SECRET_ACCESS_KEY"),
        optional=True,
    ),
    Source("metseg-pseudonyms", ("key",), ("METSEG_PSEUDONYM_KEY",), optional=True),
)
"""Keys of the objects that pods mount, and whether a run can do without them, whatever the mount says."""


def mounted(name: str, optional: bool) -> tuple[Source, ...]:
    """Return what a step reads of an object that its pod mounts; no keys if none is known."""
    return tuple(source for source in MOUNTED if source.name == name) or (Source(name, (), (), optional),)


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
