"""Build the images and report their sizes: `make images [BASE_IMAGE=…] [CUDA=1]`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from components import container_images  # noqa: E402
from metseg.child_environment import DOCKER, child_environment  # noqa: E402
from metseg.tracking.code_version import git_commit  # noqa: E402

LARGEST = {"data": 1.3e9, "train": 3.2e9, "serve": 1.3e9}
"""Bytes, uncompressed; of `train` without CUDA."""
INDEX = {
    "PIP_INDEX_URL": "index-url",
    "PIP_EXTRA_INDEX_URL": "extra-index-url",
    "PIP_TRUSTED_HOST": "trusted-host",
}
"""Build arguments, and their names in pip's configuration."""
FOR_UV = {
    "UV_DEFAULT_INDEX": "PIP_INDEX_URL",
    "UV_INDEX": "PIP_EXTRA_INDEX_URL",
    "UV_INSECURE_HOST": "PIP_TRUSTED_HOST",
}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def name(image: str) -> str:
    """Return the image's name in the pipeline and the manifests."""
    return f"{container_images.PREFIX}{container_images.NAMES[image]}:{container_images.TAG}"


def package_sources() -> dict[str, str]:
    """Return the package sources of pip and uv as build arguments.

    Folders of this machine are left out.
    """
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    configured = dict(line.partition("=")[::2] for line in listed.stdout.splitlines())
    sources = {}
    for variable, option in INDEX.items():
        value = os.environ.get(variable) or configured.get(f"global.{option}", "").strip("'\"")
        reachable = [part for part in value.replace("\\n", " ").split() if not part.startswith(("file:", "/"))]
        if reachable:
            sources[variable] = " ".join(reachable)
    for variable, pips in FOR_UV.items():
        value = os.environ.get(variable) or sources.get(pips)
        if value:
            sources[variable] = value
    return sources | {name: os.environ[name] for name in PROXIES if name in os.environ}


def build(image: str, base: str, variant: str) -> None:
    """Build one image; raises CalledProcessError."""
    arguments = {
        "IMAGE": name(image),
        "VERSION": container_images.package_version(),
        "COMMIT": git_commit(),
        "VARIANT": variant,
    }
    if base:
        arguments["BASE_IMAGE"] = base
    sources = package_sources()
    command = ["docker", "build", "--tag", name(image), "--target", image, "--file", "infra/docker/Dockerfile"]
    for key, value in arguments.items():
        command += ["--build-arg", f"{key}={value}"]
    # By name alone: docker takes the value from its environment, so that it stands in no list of processes.
    for key in sources:
        command += ["--build-arg", key]
    network = os.environ.get("BUILD_NETWORK")
    command += ["--network", network] if network else []
    subprocess.run([*command, "."], cwd=ROOT, check=True, env={**child_environment(DOCKER), **sources})


def size(image: str) -> int:
    """Return the bytes of an image's layers, uncompressed."""
    done = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Size}}", name(image)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def main() -> int:
    """Build the named images.

    Returns 1 if an image could not be built or is too large.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="*", choices=[*LARGEST, []], help="images to build (default: all three)")
    parser.add_argument("--base-image", default="", help="base image (default: that of the Dockerfile)")
    parser.add_argument("--cuda", action="store_true", help="train with NVIDIA's libraries")
    options = parser.parse_args()
    variant, lines, large = "-cuda" if options.cuda else "", [], False
    for image in options.images or LARGEST:
        started = time.monotonic()
        print(f"▸ {name(image)}", flush=True)
        try:
            build(image, options.base_image, variant)
        except FileNotFoundError:
            print("docker is not here: install Docker, or apt-get install docker.io", file=sys.stderr)
            return 2
        except subprocess.CalledProcessError as error:
            print(f"{name(image)} could not be built (docker build ended with {error.returncode})", file=sys.stderr)
            return 1
        layers = size(image)
        bounded = not (variant and image == "train")
        too_large = bounded and layers > LARGEST[image]
        large |= too_large
        bar = f", at most {LARGEST[image] / 1e9:.1f}" if bounded else ""
        lines.append(f"{name(image):<28} {layers / 1e9:.2f} GB{bar}{': TOO LARGE' if too_large else ''}"
                     f"  ({time.monotonic() - started:.0f} s)")  # fmt: skip
    print("\n".join(lines))
    return int(large)


if __name__ == "__main__":
    sys.exit(main())
