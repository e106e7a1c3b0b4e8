"""The names of the meta-parameters' tensors, in memory and in files of earlier versions."""

from __future__ import annotations

CONTEXT_SLOPE = "context_slope_"
"""Prefix of the tensors that hold a hyperparameter's slope over the task features."""

VECTORS = frozenset({"scale", "shift"})
"""Tensors of one number for each dimension of the encoder's vectors."""


def current_key(key: str) -> str:
    """Return the present key of a tensor in a file: a part `tilt_NAME`, as in semsearch 0.1, is `context_slope_NAME`.

    key: parts separated by slashes, such as `start/listwise/tilt_rate`.
    """
    parts = key.split("/")
    return "/".join(CONTEXT_SLOPE + part[len("tilt_") :] if part.startswith("tilt_") else part for part in parts)
