"""Named sets of settings for the place that a run is for: `metseg submit --profile NAME`."""

from __future__ import annotations

from collections.abc import Mapping

from components.configuration.setting_names import nearest
from metseg.errors import UsageError

PROFILES: Mapping[str, Mapping[str, object]] = {
    # A laptop of 16 GiB with kind or minikube, next to the services of the overlay `local`.
    "local": {
        "gpu_count": 0,
        "pod_ingest_cpu": "250m",
        "pod_ingest_memory": "1Gi",
        "pod_validate_cpu": "250m",
        "pod_validate_memory": "1Gi",
        "pod_preprocess_cpu": "250m",
        "pod_preprocess_memory": "1Gi",
        "pod_train_cpu": "500m",
        "pod_train_memory": "3584Mi",
        "pod_evaluate_cpu": "250m",
        "pod_evaluate_memory": "3Gi",
        "pod_register_cpu": "100m",
        "pod_register_memory": "1Gi",
        "pod_promote_cpu": "250m",
        "pod_promote_memory": "3Gi",
    },
}


def profile(name: str) -> dict[str, object]:
    """Return the settings of a profile by full name; none for an empty name.

    Raises:
        UsageError: there is no such profile.
    """
    if not name:
        return {}
    if name not in PROFILES:
        like = nearest(name, PROFILES)
        raise UsageError(f"--profile {name}: expected {f'{like}?' if like else ', '.join(PROFILES)}")
    return dict(PROFILES[name])
