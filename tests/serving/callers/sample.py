"""Make the gateway's sample anew: `python -m tests.serving.callers.sample`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.imaging.preprocessing.window import apply_window, volume_window
from metseg.phantom import phantom_case
from metseg.serving.gateway.api_docs import SAMPLE, SAMPLE_CHANNELS


def sample_slice() -> NDArray[np.uint8]:
    """Slice with most lesion of a phantom, `(height, width, channels)`."""
    case = phantom_case(7, 1)
    number = int(np.count_nonzero(case.seg, axis=(0, 1)).argmax())
    plane = np.stack([getattr(case, name)[..., number].T for name in SAMPLE_CHANNELS], axis=-1).astype(np.float32)
    return apply_window(plane, volume_window(plane[None], PreprocessingSpecification(SAMPLE_CHANNELS)))


if __name__ == "__main__":
    Image.fromarray(sample_slice()).save(SAMPLE, optimize=True)
