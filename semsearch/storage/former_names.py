"""Former names of fields, so that files of earlier versions can be read unchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def accept_former_names(**former: str) -> Callable[[Any], Any]:
    """Return a `before` validator for a model that renames fields. former: former name → present name."""

    def rename(values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {former.get(name, name): value for name, value in values.items()}

    return rename
