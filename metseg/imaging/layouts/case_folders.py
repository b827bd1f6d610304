"""Volumes in one folder per case: `<case>/<channel>.nii.gz` or `.nrrd`, and the mask."""

from __future__ import annotations

import re
from pathlib import Path

from metseg.imaging.channel_names import MASK, is_lesion_mask
from metseg.imaging.io import bare_stem
from metseg.imaging.layouts.base_volumes import VolumeLayout


class CaseFolders(VolumeLayout):
    """One folder per case, one file per channel.

    A channel is named by its file, without a leading name of the case.
    """

    name = "case-folders"
    looks_for = "one folder a case with a volume a channel, such as t1c.nii.gz or t1c.nrrd, and mask or seg"
    file_stem = "{channel}"
    default_channels = ()

    def recognise(self, root: Path) -> bool:
        """Return True if a folder contains a mask and another volume."""
        return any(case.mask and case.files for case in self.find(root))

    def channel_of(self, path: Path) -> str:
        """Return the file's stem without a leading name of its folder; `MASK` for a mask."""
        stem = bare_stem(path)
        match = re.match(re.escape(path.parent.name) + r"[-_. ]+(?=.)", stem)
        channel = stem[match.end() :] if match else stem
        return MASK if is_lesion_mask(channel) else channel
