"""A server that encodes with infinity and searches with FAISS, in one process with FastAPI.

python scripts/peers/infinity.py DOCUMENTS.jsonl MODEL PORT
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import faiss
import numpy as np
import uvicorn
from fastapi import FastAPI
from infinity_emb import AsyncEmbeddingEngine, EngineArgs

documents = [json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
engine = AsyncEmbeddingEngine.from_args(
    EngineArgs(
        model_name_or_path=sys.argv[2], engine="torch", device="cpu", model_warmup=False, bettertransformer=False
    )
)
index = faiss.IndexFlatIP(384)


async def encode(texts: list[str]) -> np.ndarray:
    """Return (n, 384) float32, rows of unit length."""
    vectors, _ = await engine.embed(texts)
    stacked = np.stack(vectors).astype(np.float32)
    return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Encode the documents before the server starts."""
    await engine.astart()
    for start in range(0, len(documents), 512):
        index.add(await encode([document["text"] for document in documents[start : start + 512]]))
    yield
    await engine.astop()


app = FastAPI(lifespan=lifespan)


@app.get("/search")
async def search(query: str, limit: int) -> dict[str, object]:
    """Return the documents nearest to a query."""
    scores, rows = index.search(await encode([query]), limit)
    return {"hits": [{**documents[row], "score": float(score)} for row, score in zip(rows[0], scores[0], strict=True)]}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[3]), log_level="error")
