"""Client of TF Serving or the embedded model server; it needs no TensorFlow.

from metseg.serving.client import SegmentationClient
"""

from metseg.serving.client.channel import Tls
from metseg.serving.client.model_client import ModelClient, VersionStatus
from metseg.serving.client.model_description import ModelDescription
from metseg.serving.client.segmentation_client import Prediction, Segmentation, SegmentationClient

__all__ = [
    "ModelClient",
    "ModelDescription",
    "Prediction",
    "Segmentation",
    "SegmentationClient",
    "Tls",
    "VersionStatus",
]
