#!/usr/bin/env python3
"""Train the weights included in semsearch, on openly licensed data sets only: train_weights.py DATA_DIR

DATA_DIR holds domains.json and domains/NAME in BEIR's layout; with embeddings/NAME.npz, nothing is encoded.
Writes semsearch/weights/default.safetensors, and the list of data sets into the model card next to it. The same data
give bit-identical weights on the same machine with the same number of threads.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from semsearch.adapters.weights import DEFAULT_WEIGHTS, Weights

CARD = DEFAULT_WEIGHTS.parent / "README.md"
BEGIN, END = "<!-- domains -->", "<!-- end of domains -->"


def main() -> int:
    if len(sys.argv) != 2:
        sys.stderr.write(__doc__ or "")
        return 2
    data = Path(sys.argv[1])
    command = [sys.executable, "-m", "semsearch", "learn", str(data / "domains"), "--open-licence", "--threads", "1"]
    if (data / "embeddings").is_dir():
        command += ["--embeddings", str(data / "embeddings")]
    process = subprocess.run([*command, "--out", str(DEFAULT_WEIGHTS)], check=False)
    if process.returncode:
        return process.returncode
    write_datasets(data)
    return 0


def write_datasets(data: Path) -> None:
    """Write the data sets that the weights were trained on, with their licences, into the model card."""
    descriptions = {row["name"]: row for row in json.loads((data / "domains.json").read_text(encoding="utf-8"))}
    names = Weights.open().metadata["domains"]
    assert isinstance(names, list)
    rows = [descriptions[str(name)] for name in names]
    assert all(row["open_licence"] for row in rows)
    lines = ["| domain | family | queries | licence as its source states it |", "|---|---|---|---|"]
    lines += [f"| `{row['name']}` | {row['family']} | {row['n_queries']:,} | {row['licence']} |" for row in rows]
    before, rest = CARD.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    CARD.write_text("\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"]), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
