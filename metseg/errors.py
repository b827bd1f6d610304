"""Errors reported to users: each states the problem, its place, the expectation and the remedy."""

from metseg.hidden_secrets import hidden


class MetsegError(Exception):
    """Base class: the command ends with exit code 1 and this message, without a traceback.

    The message has no secret.
    """

    exit_code = 1

    def __str__(self) -> str:
        """Return the message without secrets."""
        return hidden(super().__str__())


class UsageError(MetsegError):
    """A command or setting is wrong (an unknown flag value, a missing folder); exit code 2."""

    exit_code = 2


class DataError(MetsegError):
    """An image, a mask or a cohort cannot be used; the message names the file."""


class UnusableFile(DataError):
    """One file cannot be used; the message is made of the attributes.

    Attributes:
        where: path of the file.
        reason: the problem, without any name that comes from the file's content.
        remedy: the user's next step.
        detail: an entry's name or another library's message, which may contain a patient's name; often empty.
    """

    def __init__(self, where: object, reason: str, remedy: str, detail: str = "") -> None:
        super().__init__(f"{where}: {reason}{f' ({detail})' if detail else ''}. {remedy}")
        self.where = str(where)
        self.reason = reason
        self.remedy = remedy
        self.detail = detail


class LimitExceeded(UnusableFile):
    """A file exceeds a limit on its size or content.

    Attributes:
        found: the excess, with its size.
        limit: the limit, in the same unit.
    """

    def __init__(self, where: object, found: str, limit: str, remedy: str, detail: str = "") -> None:
        super().__init__(where, f"{found}; the limit is {limit}", remedy, detail)
        self.found = found
        self.limit = limit


class ValidationFailed(MetsegError):
    """The data were read but are unfit for training; the message names the cases."""


class ServingError(MetsegError):
    """A model server could not be reached or refused the request."""


class ServerUnavailable(ServingError):
    """No model server responds at the address."""


class ServerBusy(ServingError):
    """The model server is overloaded; a later request may succeed."""


class DeadlineExceeded(ServingError):
    """The model server did not respond in time."""


class NotServed(ServingError):
    """The server does not serve the requested model or version."""


class RequestRefused(ServingError):
    """The model server rejected the request; a retry would fail too."""


class PublishError(MetsegError):
    """A model version could not be published; no partial version remains."""


class VersionRefused(MetsegError):
    """A model version must not be served; the message states the reason."""


class Unreachable(MetsegError):
    """Registry, artifact store or shared folder do not respond now; a retry may help."""


class KubeflowError(MetsegError):
    """Kubeflow Pipelines could not be reached or refused the request."""


class NotRegistered(MetsegError):
    """The run succeeded, but its gate registered no model; exit code 3."""

    exit_code = 3


class NotKnown(MetsegError):
    """The run is still running, or its verdict could not be read; exit code 4."""

    exit_code = 4
