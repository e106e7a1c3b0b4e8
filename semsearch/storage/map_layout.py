"""Lays out the landmarks of a map by t-SNE. Runs as a separate process, whose libraries take 100 MiB with them:

python -P map_layout.py SETTINGS < arrays.npz > points.npy

SETTINGS is a JSON object of the arguments of `openTSNE.TSNE`; the arrays are `vectors`, (m, dim), and `start`, (m, 2).
"""

from __future__ import annotations

import io
import json
import sys

import numpy as np

if __name__ == "__main__":
    from openTSNE import TSNE

    arrays = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    layout = TSNE(initialization=arrays["start"], **json.loads(sys.argv[1])).fit(arrays["vectors"])
    np.save(sys.stdout.buffer, np.asarray(layout, np.float32), allow_pickle=False)
