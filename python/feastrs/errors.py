"""What feastrs raises.

Every error is a :class:`FeastrsError`. Each is also the builtin exception where Python has the
word for it, and has Feast's name where Feast has one. Where feast itself is loaded, the error
that is raised is Feast's class of that name too, so that code written for Feast catches it;
where it is not loaded, it is never imported for that.

Example:
    >>> from feastrs import errors
    >>> issubclass(errors.StoreTimeoutError, TimeoutError)
    True
"""

from __future__ import annotations

import sys


class FeastrsError(Exception):
    """Base of everything that feastrs raises on its own."""

    def __init__(self, message: str = "") -> None:
        # Not super(): where Feast's class is a base too, its __init__ would word it again.
        Exception.__init__(self, message)

    def __reduce__(self) -> tuple[object, ...]:
        # A class that is Feast's too is made at run time: pickle finds ours by its name.
        return _again, (type(self).__name__, str(self))

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __repr__(self) -> str:
        # Here, for Feast's may look for what its __init__ would have set.
        return f"{type(self).__name__}({str(self)!r})"


class FeastConfigError(FeastrsError, ValueError):
    """`feature_store.yaml` is missing, unreadable, or says something unsupported."""


class InvalidArgumentError(FeastrsError, ValueError):
    """An argument has a value that can't be used."""


class TypeMismatchError(FeastrsError, TypeError):
    """A value or column has another type than the one declared."""


class FeastObjectNotFoundException(FeastrsError):
    """No object of that name in the registry."""


class FeatureViewNotFoundException(FeastObjectNotFoundException):
    """No feature view of that name."""


class FeatureViewVersionNotFound(FeastObjectNotFoundException):
    """The view has no such version."""


class FeatureServiceNotFoundException(FeastObjectNotFoundException):
    """No feature service of that name."""


class EntityNotFoundException(FeastObjectNotFoundException):
    """No entity of that name."""


class DataSourceObjectNotFoundException(FeastObjectNotFoundException):
    """No data source of that name."""


class PushSourceNotFoundException(FeastrsError, KeyError):
    """No push source of that name, or none that feeds a view."""


class ProjectObjectNotFoundException(FeastObjectNotFoundException):
    """No project of that name."""


class FeatureNotFoundError(FeastrsError, KeyError):
    """The view has no feature of that name."""


class FeatureNameCollisionError(FeastrsError, ValueError):
    """Two columns of one answer would have the same name."""


class JoinKeyMissingError(FeastrsError, KeyError):
    """The entity rows lack a join key that a requested view needs."""


class EntityTimestampInferenceException(FeastrsError, ValueError):
    """An entity frame has no column that says when its rows are, or several that might."""


class RequestDataNotFoundInEntityRowsException(FeastrsError, KeyError):
    """The entity rows lack a value that an on-demand view takes from the request."""


class PrecomputedVectorsMissingError(FeastrsError, RuntimeError):
    """A service has ``precompute_online``, and its vectors are not there or are out of date."""


class RegistryNotFoundError(FeastrsError, FileNotFoundError):
    """The registry file is not there."""


class RegistryInvalidError(FeastrsError, ValueError):
    """The registry's bytes are not a Feast registry."""


class RegistryUnavailableError(FeastrsError, ConnectionError):
    """The object store that holds the registry can't be reached, or answered with an error."""


class RegistryDeniedError(FeastrsError, PermissionError):
    """The object store that holds the registry refused the credentials or the permission."""


class SourceNotFoundError(FeastrsError, FileNotFoundError):
    """A source file is not there, or a pattern matches none."""


class SourceInvalidError(FeastrsError, ValueError):
    """A source's bytes, columns or types are not what they should be."""


class SavedDatasetLocationAlreadyExists(FeastrsError, FileExistsError):
    """Rows would be written to where there are some already."""


class SourceChangedError(FeastrsError, RuntimeError):
    """A source file changed while it was read; nothing was recorded. Run it again."""


class SourceUnavailableError(FeastrsError, ConnectionError):
    """The object store that holds a source can't be reached, or answered with an error."""


class SourceDeniedError(FeastrsError, PermissionError):
    """The object store that holds a source refused the credentials or the permission."""


class ColumnMissingError(FeastrsError, KeyError, ValueError):
    """Rows that are to be written lack a column: a join key, a timestamp or a feature."""


class NullKeyError(FeastrsError, ValueError):
    """Rows have no value for a join key."""


class StoreUnavailableError(FeastrsError, ConnectionError):
    """The online store can't be reached, or went away."""


class StoreTimeoutError(FeastrsError, TimeoutError):
    """The online store did not answer in time."""


class StoreDeniedError(FeastrsError, PermissionError):
    """The online store refused the credentials or the permission."""


class StoreRefusedError(FeastrsError, RuntimeError):
    """The online store answered with an error."""


class StoreInvalidError(FeastrsError, ValueError):
    """The online store holds something that Feast does not write."""


class UnauthenticatedError(FeastrsError, PermissionError):
    """The server was shown no token that it accepts."""


class FeastPermissionError(FeastrsError, PermissionError):
    """No permission of the registry lets this user do this."""


class ProviderUnavailableError(FeastrsError, ConnectionError):
    """The identity provider can't be reached, so that no token can be checked."""


class NeedsFeastError(FeastrsError, NotImplementedError):
    """Only Feast itself can do this, and it is not installed."""


class UnsupportedError(FeastrsError, NotImplementedError):
    """Not supported; the message says what is."""


class FileError(FeastrsError, OSError):
    """The operating system refused a file operation."""


class InternalError(FeastrsError, RuntimeError):
    """A promise inside feastrs was broken: a bug, please report it."""


# The core's kinds of errors, each with its class. `Interrupted` has none: the signal's own
# exception, mostly KeyboardInterrupt, passes through.
_CLASSES: dict[str, type[FeastrsError]] = {
    "InvalidConfig": FeastConfigError,
    "InvalidArgument": InvalidArgumentError,
    "TypeMismatch": TypeMismatchError,
    "FeatureViewNotFound": FeatureViewNotFoundException,
    "FeatureViewVersionNotFound": FeatureViewVersionNotFound,
    "FeatureNotFound": FeatureNotFoundError,
    "FeatureServiceNotFound": FeatureServiceNotFoundException,
    "EntityNotFound": EntityNotFoundException,
    "DataSourceNotFound": DataSourceObjectNotFoundException,
    "PushSourceNotFound": PushSourceNotFoundException,
    "ProjectNotFound": ProjectObjectNotFoundException,
    "ObjectNotFound": FeastObjectNotFoundException,
    "FeatureNameCollision": FeatureNameCollisionError,
    "JoinKeyMissing": JoinKeyMissingError,
    "EntityTimestampMissing": EntityTimestampInferenceException,
    "RequestDataMissing": RequestDataNotFoundInEntityRowsException,
    "PrecomputedMissing": PrecomputedVectorsMissingError,
    "RegistryNotFound": RegistryNotFoundError,
    "RegistryInvalid": RegistryInvalidError,
    "RegistryUnavailable": RegistryUnavailableError,
    "RegistryDenied": RegistryDeniedError,
    "SourceNotFound": SourceNotFoundError,
    "SourceInvalid": SourceInvalidError,
    "TargetExists": SavedDatasetLocationAlreadyExists,
    "SourceChanged": SourceChangedError,
    "SourceUnavailable": SourceUnavailableError,
    "SourceDenied": SourceDeniedError,
    "ColumnMissing": ColumnMissingError,
    "NullKey": NullKeyError,
    "StoreUnavailable": StoreUnavailableError,
    "StoreTimeout": StoreTimeoutError,
    "StoreDenied": StoreDeniedError,
    "StoreRefused": StoreRefusedError,
    "StoreInvalid": StoreInvalidError,
    "Unauthenticated": UnauthenticatedError,
    "PermissionDenied": FeastPermissionError,
    "ProviderUnavailable": ProviderUnavailableError,
    "NeedsFeast": NeedsFeastError,
    "Unsupported": UnsupportedError,
    "Io": FileError,
    "Internal": InternalError,
}

_FEAST_MODULES = ("feast.errors", "feast.repo_config")
_both: dict[type[FeastrsError], type[FeastrsError]] = {}


def exception_class(kind: str) -> type[FeastrsError]:
    """The class to raise for an error of the core.

    Args:
        kind: name of the core's kind of error.

    Returns:
        Ours; or, where feast is loaded and has a class of that name, one that is both.
    """
    return _with_feast(_CLASSES.get(kind, InternalError))


def _with_feast(ours: type[FeastrsError]) -> type[FeastrsError]:
    if ours in _both:
        return _both[ours]
    for module in _FEAST_MODULES:
        feasts = getattr(sys.modules.get(module), ours.__name__, None)
        if isinstance(feasts, type):
            both = type(ours.__name__, (ours, feasts), {"__module__": __name__})
            return _both.setdefault(ours, both)
    return ours


def _again(name: str, message: str) -> FeastrsError:
    ours = globals().get(name)
    if not (isinstance(ours, type) and issubclass(ours, FeastrsError)):
        ours = FeastrsError
    return _with_feast(ours)(message)
