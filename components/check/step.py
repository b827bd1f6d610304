"""Check: validate all settings before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from components.configuration.setting_names import SETTINGS, find, renamed
from components.configuration.settings import Configuration, DataSettings
from metseg.dataset.references.syntax import require_no_secret
from metseg.errors import UsageError


def check(values: Mapping[str, object]) -> Configuration:
    """Return the configuration of a run; a setting that is not given has its default.

    Args:
        values: settings by full name.

    Raises:
        UsageError: a value is out of range, and the message names the setting and what is expected; or there is no
            setting of that name.
    """
    _check_names(values)
    _check_addresses(values)
    configuration = Configuration.of(values)
    _check_data(configuration.data)
    return configuration


def _check_names(names: Iterable[str]) -> None:
    """Raise UsageError for unknown names; the message has the new name of each renamed setting.

    Pipelines of version 0.1.0 call this step too: a schedule stays with the version that it was made with, and its pods
    take the image that bears that tag by then.
    """
    unknown = [name for name in names if name not in SETTINGS]
    if old := [f"{name} is named {now} now" for name in unknown if (now := renamed(name))]:
        raise UsageError("; ".join(old))
    for name in unknown:
        find(name)


def _check_addresses(values: Mapping[str, object]) -> None:
    """Raise UsageError for a text that may hold a secret."""
    require_no_secret(str(values.get("data_reference", "")))
    for name, value in values.items():
        if name != "data_reference" and "://" in str(value):
            raise UsageError(f"{name}: expected no address; it is not repeated here, as it may hold a secret")


def _check_data(data: DataSettings) -> None:
    """Raise UsageError for a layout or labels that no reader knows."""
    from metseg.imaging.layouts import AUTO, LAYOUTS
    from metseg.imaging.layouts.dicom import ALL_REGIONS
    from metseg.imaging.layouts.mask_values import lesion_labels

    layouts = (AUTO, *(layout.name for layout in LAYOUTS))
    if data.layout not in layouts:
        raise UsageError(f"data_layout={data.layout!r}: expected {', '.join(layouts)}")
    if data.labels not in ("", ALL_REGIONS):
        lesion_labels(data.labels)


def require_tasks(configuration: Configuration, networks: Sequence[str]) -> None:
    """Raise UsageError for a network that the pipeline has no tasks for."""
    missing = [name for name in configuration.architectures if name not in networks]
    if missing:
        raise UsageError(
            f"train_architectures={configuration.train.architectures}: this pipeline has no tasks for "
            f"{', '.join(missing)}; take its version with the baseline, which `metseg submit` uploads for such a run, "
            f"or of {', '.join(networks)}"
        )
