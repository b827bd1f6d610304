"""Settings from environment variables: their base class, and the limits on resources of a process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from metseg.errors import UsageError


def _split_at_commas(value: object) -> object:
    return tuple(part for text in value.split(",") if (part := text.strip())) if isinstance(value, str) else value


def _in_units_of(unit: int) -> BeforeValidator:
    def parse(value: object) -> object:
        try:
            return int(float(value) * unit) if isinstance(value, str) else value
        except (ValueError, OverflowError):  # NaN and infinity too: refused as no whole number of bytes
            return value

    return BeforeValidator(parse)


Gigabytes = Annotated[int, _in_units_of(2**30)]
"""A number of bytes, in gigabytes (2**30 bytes) in the variable."""
Megabytes = Annotated[int, _in_units_of(2**20)]
"""A number of bytes, in megabytes (2**20 bytes) in the variable."""
CommaSeparated = Annotated[tuple[str, ...], BeforeValidator(_split_at_commas)]
"""A tuple of texts, separated by commas in the variable."""


class EnvironmentSettings(BaseSettings):
    """Frozen settings, each of one environment variable; the constructor itself reads no environment.

    The variable is `env_prefix` and the field's name in capitals, or the field's `validation_alias`. An empty variable
    counts as not set. A field's `description` completes the message "expected …"; a field with `repr=False` is a
    secret, whose value no message shows.

    Example:
        >>> from pydantic import Field
        >>> class Queue(EnvironmentSettings):
        ...     model_config = SettingsConfigDict(env_prefix="METSEG_QUEUE_")
        ...     length: int = Field(default=8, ge=0, description="a whole number, 0 or more")
        >>> Queue(length=2).length
        2
        >>> Queue(length="many")
        Traceback (most recent call last):
        metseg.errors.UsageError: METSEG_QUEUE_LENGTH=many: expected a whole number, 0 or more
    """

    model_config = SettingsConfigDict(
        env_prefix="METSEG_",
        env_ignore_empty=True,
        enable_decoding=False,
        frozen=True,
        populate_by_name=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    def __init__(self, **values: object) -> None:
        """Validate the values.

        Raises:
            UsageError: a value does not fit; names the variable, the value and the expectation.
        """
        try:
            super().__init__(**values)  # type: ignore[arg-type]
        except ValidationError as error:
            messages = (self._message(part, values) for part in error.errors(include_url=False))
            raise UsageError("; ".join(messages)) from None

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings from the environment.

        Raises:
            UsageError: a value does not fit; names the variable, the value and the expectation.
        """
        return cls(**EnvSettingsSource(cls)())

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        **others: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take the constructor's arguments alone."""
        return (init_settings,)

    def replaced(self, **changes: object) -> Self:
        """Return a copy with other values; raises UsageError as the constructor does."""
        return type(self)(**{**dict(self), **changes})

    @classmethod
    def _message(cls, error: ErrorDetails, values: Mapping[str, object]) -> str:
        reason = error["msg"].removeprefix("Value error, ")
        if not error["loc"]:
            return reason
        name = str(error["loc"][0])
        variables = {field: info.validation_alias or cls._prefixed(field) for field, info in cls.model_fields.items()}
        field = next((field for field, variable in variables.items() if name in (field, variable)), name)
        info = cls.model_fields.get(field)
        if info is None:
            return f"{cls.__name__} has no setting {name}"
        shown = f"{variables[field]}={values.get(name, error['input'])}" if info.repr else str(variables[field])
        if error["type"] == "value_error":
            return f"{shown}: {reason}"
        expected = info.description or reason.removeprefix("Input should be ").partition(", unable")[0]
        return f"{shown}: expected {expected}"

    @classmethod
    def _prefixed(cls, field: str) -> str:
        return f"{cls.model_config['env_prefix']}{field}".upper()


CACHE_BYTES = 50 * 2**30


class ResourceSettings(EnvironmentSettings):
    """Resources that a process may take.

    Attributes:
        workers: cases worked on at once; the usable cores if not set (`METSEG_WORKERS`).
        patience_seconds: seconds to wait for an unavailable service; 240 in a pod and 0 elsewhere if not set
            (`METSEG_PATIENCE_SECONDS`).
        cache_bytes: size of the data cache, beyond which unused entries are removed (`METSEG_CACHE_GB`, 50).
        disk_bytes: size limit of the folder of fetched data, if it is below its disk's (`METSEG_DISK_GB`). The
            pipeline sets it in a pod, because Kubernetes evicts a pod whose volume exceeds its limit.
    """

    workers: int | None = Field(default=None, ge=1, description="a whole number, 1 or more")
    patience_seconds: int | None = Field(default=None, ge=0, description="whole seconds, such as 240")
    cache_bytes: Gigabytes = Field(
        default=CACHE_BYTES, ge=0, validation_alias="METSEG_CACHE_GB", description="a number of gigabytes, 0 or more"
    )
    disk_bytes: Gigabytes | None = Field(
        default=None, gt=0, validation_alias="METSEG_DISK_GB", description="a number of gigabytes above 0"
    )
