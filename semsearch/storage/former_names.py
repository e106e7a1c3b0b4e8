"""Fields that had other names in files of earlier versions: such files open unchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def accept_former_names(**former: str) -> Callable[[Any], Any]:
    """A `before` validator for a model: values under former names are read as the fields they became.

    former: former name → present name.
    """

    def renamed(values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {former.get(name, name): value for name, value in values.items()}

    return renamed
