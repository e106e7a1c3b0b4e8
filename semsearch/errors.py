"""The errors of this project. Each message names the thing, its value and the remedy."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class SemsearchError(Exception):
    """Base class of all errors of this project."""


class QueryError(SemsearchError):
    """A query that is not valid."""

    def __init__(self, message: str, *, field: str = "query") -> None:
        """field: the part of the query that is not valid, under the name that requests have for it."""
        super().__init__(message)
        self.field = field


class FilterError(QueryError):
    """A filter that cannot be parsed, is too large, or names a field that no document has."""

    def __init__(self, message: str) -> None:
        """Take the message."""
        super().__init__(message, field="filter")


class InputError(SemsearchError):
    """Input files that cannot be indexed."""


class RecipeError(SemsearchError):
    """A recipe or a build option that is not valid."""


class EncoderError(SemsearchError):
    """An encoder that cannot be loaded or gives unusable vectors."""


class IndexFolderError(SemsearchError):
    """An index on disk that is missing, damaged, busy or of another format."""


class IndexWriteError(IndexFolderError):
    """An index that cannot be written, because its disk is full or its folder is read-only or gone; it is unchanged."""


class IndexBusyError(IndexFolderError):
    """An index that another process, or another thread, is writing."""


class LabelError(SemsearchError):
    """Labels or labelled domains that cannot be learned from."""


class ConflictError(SemsearchError):
    """Something else already exists under this name or id."""


class StorageError(SemsearchError):
    """A file stored with an index cannot be read or written; a failed write leaves nothing behind."""


class StateError(SemsearchError):
    """A change of a domain that is not possible, or a learned state that does not fit."""


class StateFileError(StateError):
    """A file of a domain that is damaged, of another format, or of another encoder; the message has its path."""


class WeightsError(SemsearchError):
    """Learned weights that are damaged, of another format, or of another encoder."""


class OverloadedError(SemsearchError):
    """The queue of waiting work is full."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """Seconds after which to retry, a whole number, at least 1."""


class DeadlineError(OverloadedError):
    """A request ran out of time before its response was ready."""
