"""Variables of child processes: each process gets those that it needs, by name.

A new variable goes into the group of the processes that need it, and into `metseg.hidden_secrets` if it is a secret.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from metseg.certificates import BUNDLE_VARIABLE, READERS
from metseg.process_environment import FOREIGN_LOGIN, OPENED_ELSEWHERE, PROXIES, QUIET, TRACKING_URI


def _named(names: str, prefix: str = "") -> frozenset[str]:
    """Return the names in a text, each behind the prefix."""
    return frozenset(prefix + name for name in names.split())


SYSTEM = _named(
    "PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TERM COLUMNS NO_COLOR TMPDIR VIRTUAL_ENV LD_LIBRARY_PATH LD_PRELOAD "
    "SSL_CERT_DIR CURL_CA_BUNDLE XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_RUNTIME_DIR"
).union(READERS, [BUNDLE_VARIABLE])
"""Needed by any program of this machine."""
LANGUAGE = ("LC_", "PYTHON", "PYENV_", "DYLD_")
HARDWARE = (
    *("CUDA_", "KERAS_", "MALLOC_", "MKL_", "NCCL_", "NVIDIA_", "NVPL_", "OMP_", "OPENBLAS_", "OPENCV_"),
    *("TF_", "XLA_"),
)
"""Beginnings of the names of variables of Python and of libraries of numbers, none of which is a secret."""
NETWORK = frozenset([*PROXIES, *map(str.lower, PROXIES)])

FOLDERS = _named(
    "WORKSPACE DATA RUNS MODEL_BASE_PATH SERVED_BASE_PATH STATE ARTIFACT_ROOT IMAGE GIT_COMMIT", prefix="METSEG_"
)
"""Folders of this machine, and what an image sets itself."""
SETTINGS = _named(
    "MODEL_SERVER RECONCILER WORKERS PATIENCE_SECONDS PROGRESS CACHE_GB DISK_GB ARCHIVE_FILES ARCHIVE_FILE_GB "
    "ARCHIVE_TOTAL_GB ARCHIVE_RATIO KEEP_CHECKPOINTS KEEP_VERSIONS PSEUDONYMS IMAGE_PREFIX IMAGE_TAG DATA_IMAGE "
    "TRAIN_IMAGE KUBEFLOW_RUN",
    prefix="METSEG_",
).union(QUIET)
"""Settings without secrets, of every process of metseg."""
MLFLOW = NETWORK.union(
    [TRACKING_URI, *OPENED_ELSEWHERE, *FOREIGN_LOGIN],
    _named("MLFLOW_USERNAME MLFLOW_PASSWORD MLFLOW_URL KUBEFLOW_URL KUBEFLOW_API", prefix="METSEG_"),
    _named(
        "TRACKING_URI REGISTRY_URI HTTP_REQUEST_MAX_RETRIES HTTP_REQUEST_BACKOFF_FACTOR HTTP_REQUEST_TIMEOUT "
        "ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT SYSTEM_METRICS_SAMPLING_INTERVAL",
        prefix="MLFLOW_",
    ),
)
"""Needed to call MLflow, and to name the pages of a run."""
STORAGE = NETWORK.union(
    _named("ENDPOINT_URL REGION ACCESS_KEY_ID SECRET_ACCESS_KEY", prefix="METSEG_S3_"),
    _named(
        "ACCESS_KEY_ID SECRET_ACCESS_KEY SESSION_TOKEN SECURITY_TOKEN CREDENTIAL_EXPIRATION PROFILE DEFAULT_PROFILE "
        "REGION DEFAULT_REGION ENDPOINT_URL ENDPOINT_URL_S3 IGNORE_CONFIGURED_ENDPOINT_URLS CONFIG_FILE "
        "SHARED_CREDENTIALS_FILE ROLE_ARN ROLE_SESSION_NAME WEB_IDENTITY_TOKEN_FILE EC2_METADATA_DISABLED "
        "CONTAINER_CREDENTIALS_RELATIVE_URI CONTAINER_CREDENTIALS_FULL_URI CONTAINER_AUTHORIZATION_TOKEN "
        "CONTAINER_AUTHORIZATION_TOKEN_FILE STS_REGIONAL_ENDPOINTS REQUEST_CHECKSUM_CALCULATION "
        "RESPONSE_CHECKSUM_VALIDATION",
        prefix="AWS_",
    ),
    ["MLFLOW_S3_ENDPOINT_URL"],
)
"""Keys of buckets, of the data or of MLflow's artifacts."""
PSEUDONYMS = frozenset(["METSEG_PSEUDONYM_KEY"])
GIT = _named(
    "GIT_CONFIG_GLOBAL GIT_CONFIG_SYSTEM GIT_CONFIG_NOSYSTEM GIT_CEILING_DIRECTORIES GIT_TERMINAL_PROMPT "
    "SSH_AUTH_SOCK METSEG_GIT_CREDENTIALS DVC_SITE_CACHE_DIR DVC_GLOBAL_CONFIG_DIR DVC_SYSTEM_CONFIG_DIR"
)
DATA = STORAGE | PSEUDONYMS | GIT
"""Needed to read data, and to name their patients."""
DOCKER = NETWORK | _named(
    "DOCKER_HOST DOCKER_CONFIG DOCKER_CONTEXT DOCKER_CERT_PATH DOCKER_TLS_VERIFY DOCKER_BUILDKIT BUILDX_CONFIG"
)
KUBECTL = STORAGE | _named("KUBECONFIG GOOGLE_APPLICATION_CREDENTIALS CLOUDSDK_CONFIG AZURE_CONFIG_DIR")
"""Needed by kubectl and by the program of a cloud that it logs in with."""


def of_this_process(names: Iterable[str], families: tuple[str, ...]) -> dict[str, str]:
    """Return this process's variables with one of the names, or of a family."""
    wanted = frozenset(names)
    return {name: value for name, value in os.environ.items() if name in wanted or name.startswith(families)}


def child_environment(*groups: Iterable[str]) -> dict[str, str]:
    """Return the environment of a program of this machine.

    It is the system's variables, and those of the groups.
    """
    return of_this_process(SYSTEM.union(*groups), LANGUAGE + HARDWARE)
