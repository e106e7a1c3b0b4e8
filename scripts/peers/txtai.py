"""The server of txtai, with an index of the same documents.

python scripts/peers/txtai.py DOCUMENTS.jsonl MODEL PORT
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

# this file has the same name as the package, and would be imported instead
sys.path.pop(0)

folder = Path(tempfile.mkdtemp(prefix="txtai-"))
config = folder / "config.yml"
settings = {
    "path": str(folder / "index"),
    "writable": False,
    "embeddings": {"path": sys.argv[2], "content": True, "gpu": False},
}
config.write_text(json.dumps(settings))  # JSON is YAML
os.environ |= {"CONFIG": str(config), "HF_HUB_OFFLINE": "1"}

import uvicorn  # noqa: E402
from txtai import Embeddings  # noqa: E402

documents = [json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
embeddings = Embeddings(path=sys.argv[2], content=True, gpu=False)
embeddings.index((document["id"], document["text"]) for document in documents)
embeddings.save(str(folder / "index"))

uvicorn.run("txtai.api:app", host="127.0.0.1", port=int(sys.argv[3]), log_level="error")
