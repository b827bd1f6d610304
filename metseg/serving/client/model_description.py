"""The specification that a model states about itself by its signature `describe`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from metseg.errors import ServingError
from metseg.files import parse_json
from metseg.imaging.preprocessing.specification import PreprocessingSpecification

SUMMARY_FIELDS = ("architecture", "channels", "threshold", "minimum_volume_mm3")
"""Fields that files with lesions repeat."""


@dataclass(frozen=True)
class ModelDescription:
    """Specification of a model version; to read a required field that it lacks raises ServingError.

    Attributes:
        model: name and address, for messages.
        fields: content of the JSON object.

    Example:
        >>> description = ModelDescription.parse("metastases at :8500", '{"channels": ["t1c"], "threshold": 0.4}')
        >>> description.channels, description.threshold, description.architecture
        (('t1c',), 0.4, '')
        >>> description.preprocessing  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        metseg.errors.ServingError: metastases at :8500 describes itself without preprocessing, only with channels, ...
    """

    model: str
    fields: Mapping[str, object]

    @classmethod
    def parse(cls, model: str, text: str | bytes) -> ModelDescription:
        """Parse the text of the signature `describe`; raises ServingError if it is no JSON object."""
        try:
            fields = parse_json(text)
        except ValueError as error:
            raise ServingError(f"{model} describes itself by text that is not JSON: {text[:200]!r}") from error
        if not isinstance(fields, dict):
            raise ServingError(f"{model} describes itself by {fields!r}; expected a JSON object")
        return cls(model, fields)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the image's channels, in order."""
        return self._names("channels", self._required("channels"))

    @property
    def labels(self) -> tuple[str, ...]:
        """Label values that are lesion; empty if the model states none."""
        return self._names("labels", self.fields.get("labels") or [])

    @property
    def threshold(self) -> float:
        """Probability from which a voxel is lesion."""
        return self._number("threshold")

    @property
    def minimum_volume_mm3(self) -> float:
        """Smallest lesion in mm³ (voxels, if the spacing is unknown)."""
        return self._number("minimum_volume_mm3")

    @property
    def preprocessing(self) -> PreprocessingSpecification:
        """Preprocessing that the served graph applies."""
        content = self._required("preprocessing")
        try:
            return PreprocessingSpecification.from_json(json.dumps(content))
        except (KeyError, TypeError) as error:
            raise ServingError(
                f"{self.model} describes its preprocessing in a way that this client does not know ({error}): it was "
                "exported by another version of metseg"
            ) from error

    @property
    def architecture(self) -> str:
        """Name of the network; empty if the model states none."""
        return str(self.fields.get("architecture") or "")

    @property
    def metseg_version(self) -> str:
        """Version of metseg that exported the model; empty if the model states none."""
        return str(self.fields.get("metseg.version") or "")

    def summary(self, model_name: str) -> dict[str, object]:
        """Return the model's part of files with lesions: its name and `SUMMARY_FIELDS`."""
        return {"name": model_name, **{field: self.fields.get(field) for field in SUMMARY_FIELDS}}

    def _number(self, name: str) -> float:
        value = self._required(name)
        if not isinstance(value, int | float):
            raise ServingError(f"{self.model} describes itself with {name} {value!r}; expected a number")
        return float(value)

    def _names(self, name: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise ServingError(f"{self.model} describes itself with {name} {value!r}; expected a list")
        return tuple(map(str, value))

    def _required(self, name: str) -> object:
        if name not in self.fields:
            raise ServingError(
                f"{self.model} describes itself without {name}, only with {', '.join(sorted(self.fields))}; "
                "expected a model exported by metseg"
            )
        return self.fields[name]
