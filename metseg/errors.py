"""The one family of errors that a user meets: each says what, where, what was expected and what to do."""


class MetsegError(Exception):
    """The work could not be done; the command ends with exit code 1 and this message, without a traceback."""

    exit_code = 1


class UsageError(MetsegError):
    """The command was called wrongly (an unknown flag value, a missing folder); exit code 2."""

    exit_code = 2


class DataError(MetsegError):
    """An image, a mask or a cohort cannot be used; the message names the file."""


class TooLarge(DataError):
    """An image or archive is larger than is read here."""


class ValidationFailed(MetsegError):
    """The data were read but judged unfit; the message names the cases."""


class ServingError(MetsegError):
    """A model server could not be reached, or refused the request."""


class ServerUnavailable(ServingError):
    """No model server answers at the address."""


class ServerBusy(ServingError):
    """The model server has no room for the request; it may have later."""


class DeadlineExceeded(ServingError):
    """The model server did not answer in time."""


class NotServed(ServingError):
    """The server does not hold the model or version that was asked for."""


class RequestRefused(ServingError):
    """The model server refused the request as it is; sending it again changes nothing."""


class PublishError(MetsegError):
    """A model version could not be published; nothing was left half-written."""


class VersionRefused(MetsegError):
    """A model version must not be served; the message states the reason."""


class Unreachable(MetsegError):
    """Registry, artifact store or shared folder do not respond now; no version is to blame, and a retry may help."""


class KubeflowError(MetsegError):
    """Kubeflow Pipelines could not be reached, or refused the request."""


class NotRegistered(MetsegError):
    """The run succeeded, and its gate registered nothing; exit code 3, so that a script can tell it from a failure."""

    exit_code = 3


class NotKnown(MetsegError):
    """How a run ends is not known: it goes on, or its verdict could not be read.

    Exit code 4, so that a script can tell it from a failure.
    """

    exit_code = 4
