"""The straightforward implementation: Flask, sentence-transformers on torch and FAISS, one query at a time.

python scripts/peers/naive.py DOCUMENTS.jsonl MODEL PORT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import faiss
from flask import Flask, request
from sentence_transformers import SentenceTransformer
from waitress import serve

documents = [json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
model = SentenceTransformer(sys.argv[2], device="cpu")
index = faiss.IndexFlatIP(model.get_embedding_dimension())
index.add(model.encode([document["text"] for document in documents], normalize_embeddings=True))
app = Flask(__name__)


@app.get("/search")
def search() -> dict[str, object]:
    """Return the documents nearest to a query."""
    vector = model.encode([request.args["query"]], normalize_embeddings=True, show_progress_bar=False)
    scores, rows = index.search(vector, int(request.args["limit"]))
    return {"hits": [{**documents[row], "score": float(score)} for row, score in zip(rows[0], scores[0], strict=True)]}


serve(app, host="127.0.0.1", port=int(sys.argv[3]), threads=64, connection_limit=1_000)
