"""Lays out the landmarks of a map by t-SNE. Runs as a separate process, whose libraries take 100 MiB with them:

python -P map_layout.py SETTINGS < arrays.npz > points

SETTINGS is a JSON object of the arguments of `openTSNE.TSNE`; the arrays are `vectors`, (m, dim), and `start`, (m, 2).
The last bytes of the standard output are the points, (m, 2) float32.
"""

from __future__ import annotations

import io
import json
import os
import sys

import numpy as np

if __name__ == "__main__":
    # whatever is printed from here on goes to the standard error
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)

    from openTSNE import TSNE

    arrays = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    layout = TSNE(initialization=arrays["start"], **json.loads(sys.argv[1])).fit(arrays["vectors"])
    with os.fdopen(output, "wb") as points:
        points.write(np.asarray(layout, np.float32).tobytes())
