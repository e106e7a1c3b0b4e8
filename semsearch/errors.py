"""One family of errors, raised on purpose: each message names the thing, its value and the remedy."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """What an error of a library says first: the rest is for those who wrote it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class SemsearchError(Exception):
    """Any failure that this project explains; its message names the thing, its value and the remedy."""


class QueryError(SemsearchError):
    """A query that cannot be answered as it stands."""


class FilterError(QueryError):
    """A condition on documents that cannot be understood."""


class InputError(SemsearchError):
    """Input files that cannot be indexed."""


class RecipeError(SemsearchError):
    """A recipe or a build option that makes no sense."""


class EncoderError(SemsearchError):
    """An encoder that cannot be loaded or gives unusable vectors."""


class IndexFolderError(SemsearchError):
    """An index on disk that is missing, damaged, busy or of another format."""


class IndexBusyError(IndexFolderError):
    """An index that another process, or another thread, is writing."""


class LabelError(SemsearchError):
    """Labels or labelled domains that cannot be learned from."""


class ConflictError(SemsearchError):
    """Something is there already under this name, and differs."""


class StorageError(SemsearchError):
    """What is kept beside an index cannot be read or written; what was to be written is not there."""


class StateError(SemsearchError):
    """A domain's learned state that is damaged, of another format, or of another index."""


class WeightsError(SemsearchError):
    """Learned weights that are damaged, of another format, or of another encoder."""


class OverloadedError(SemsearchError):
    """More work is waiting than may wait."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """Whole seconds after which a new try is sensible, at least 1."""


class DeadlineError(OverloadedError):
    """The time allowed for a request ran out before its answer was ready."""
