"""`metseg predict`: masks in each image's own geometry, and a table of lesions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from metseg.errors import UsageError
from metseg.progress import Progress, track
from metseg.serving.client.channel import Tls
from metseg.serving.client.inputs import DicomCase, find_cases, read_case
from metseg.serving.client.outputs import CaseResult, suffix_of, write_lesions, write_outputs
from metseg.serving.client.segmentation_client import SegmentationClient

LOGGER = logging.getLogger(__name__)


def predict_files(
    paths: Sequence[Path],
    out: Path,
    server: str,
    model_name: str,
    label: str,
    channels: Sequence[str],
    *,
    timeout: float = 600.0,
    tls: Tls | None = None,
    identified: bool = False,
) -> Path:
    """Segment images through a model server.

    Args:
        paths: image files of one or more cases, folders of them, or folders of DICOM files.
        out: folder for `<case>-mask.*`, `<case>-overlay.png`, `lesions.json` and `lesions.csv`.
        server: `host:port`.
        model_name: the model, as the server names it.
        label: version label, or empty for the latest version.
        channels: channel of each file in order, if their names do not state it; of DICOM, `NAME=PATTERN` of a
            description.
        timeout: seconds for one request.
        tls: certificates for TLS; None: plain HTTP/2.
        identified: keep the patient's name in a DICOM SEG, instead of the pseudonym.

    Returns:
        Path of `lesions.json`.

    Raises:
        UsageError: a path does not exist.

    Example:
        >>> predict_files([Path("absent.nii.gz")], Path("masks"), "127.0.0.1:8500", "metastases", "stable", [])
        Traceback (most recent call last):
        metseg.errors.UsageError: absent.nii.gz: there is no such file or folder
    """
    absent = next((path for path in paths if not path.exists()), None)
    if absent is not None:
        raise UsageError(f"{absent}: there is no such file or folder")
    with SegmentationClient(server, model_name, label=label or None, timeout=timeout, tls=tls) as client:
        description = client.describe()
        cases = find_cases(paths, description.channels, channels)
        out.mkdir(parents=True, exist_ok=True)
        results = []
        for case in track(cases, "segmenting"):
            read = read_case(case, description.channels)
            with Progress(case.name, len(read.image)) as progress:
                segmentation = client.segment(read.image, read.geometry, lambda done, total: progress.update(done))
            patient = case.patient if isinstance(case, DicomCase) and not identified else None
            mask, overlay = out / f"{case.name}-mask{suffix_of(read)}", out / f"{case.name}-overlay.png"
            write_outputs(read, segmentation, model_name, mask, overlay, patient=patient)
            LOGGER.info("%s: %d lesions, %s", case.name, len(segmentation.lesions), mask)
            files = {"files": read.sources, "mask": mask.name, "overlay": overlay.name}
            results.append(CaseResult.of(case.name, read, segmentation, **files))
    table, _ = write_lesions(out, model_name, description, results)
    total = sum(len(result.lesions) for result in results)
    print(f"{len(results)} case(s), {total} lesion(s): masks, overlays, lesions.json and lesions.csv in {out}")
    return table
