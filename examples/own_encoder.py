"""Use any object as encoder, and precomputed vectors.

    python examples/own_encoder.py

This encoder hashes character trigrams: it needs no model, and matches misspelled words.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from semsearch import Index


class Trigrams:
    """Counts of a text's character trigrams, hashed into a vector."""

    name = "trigrams-512"
    """Recorded in the index: change it with every change of the vectors."""
    dimension = 512

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """(n, 512) float32."""
        return np.stack([self._vector(text) for text in texts])

    encode_documents = encode_queries

    def _vector(self, text: str) -> np.ndarray:
        padded = f"  {text.casefold()} "
        vector = np.zeros(self.dimension, np.float32)
        for start in range(len(padded) - 2):
            vector[zlib.crc32(padded[start : start + 3].encode()) % self.dimension] += 1
        return vector


DOCUMENTS = ["Amsterdam", "Rotterdam", "Copenhagen", "Bratislava", "Reykjavik"]


def main() -> None:
    """Search with the encoder, first over vectors that the build makes, then over precomputed ones."""
    cities = [{"id": name.lower(), "text": name} for name in DOCUMENTS]
    encoder = Trigrams()
    with Index.build(documents=cities, encoder=encoder) as index:
        print([hit.id for hit in index.search("roterdamm", k=2, mode="semantic")])
    vectors = encoder.encode_documents(DOCUMENTS)
    with Index.build(documents=cities, encoder=encoder, vectors=vectors) as index:
        print([hit.id for hit in index.search("kopenhagen", k=1, mode="semantic")])


if __name__ == "__main__":
    main()
