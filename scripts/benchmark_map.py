"""Measure the map of an index: python scripts/benchmark_map.py EMBEDDINGS [--sizes 10000,100000]

EMBEDDINGS is a folder of NAME.npz, as described in scripts/large_index.py. For each size: seconds to fit the map and to
project all vectors, compared with an exact search for the ten nearest of each; the share of a landmark's ten nearest
landmarks that are among its ten nearest on the map; the size of the map's data; and, in Chromium, milliseconds between
two frames while the map is zoomed, without a GPU.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import faiss
import numpy as np
from large_index import corpus, publish_index
from playwright.sync_api import sync_playwright
from servers import start

from semsearch.adapters.basis import SpectralBasis
from semsearch.encoders.encoder import Encoder
from semsearch.ingest.recipe import IndexOptions
from semsearch.storage.projection import Projection
from semsearch.types import Vectors

NEIGHBOURS = 10
SAMPLE = 1_000
"""Landmarks compared, and vectors of the exact search."""
MEASURE_FRAMES = """async () => {
    const canvas = document.querySelector("canvas");
    const sheet = canvas.getBoundingClientRect();
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const deltas = [];
    let before = await frame();
    for (let number = 0; number < 120; number++) {
        const turn = { deltaY: number % 60 < 30 ? -40 : 40, clientX: sheet.x + 300, clientY: sheet.y + 200 };
        canvas.dispatchEvent(new WheelEvent("wheel", { ...turn, cancelable: true }));
        const now = await frame();
        deltas.push(now - before);
        before = now;
    }
    return deltas.slice(5);
}"""


def neighbours_kept(projection: Projection) -> float:
    """Return the share of a landmark's nearest landmarks that are among its nearest on the map."""
    landmarks = projection.landmarks.astype(np.float32)
    sample = np.random.default_rng(0).permutation(len(landmarks))[:SAMPLE]
    shares = []
    for row in sample:
        nearest = np.argsort(-(landmarks @ landmarks[row]))[1 : NEIGHBOURS + 1]
        distances = np.linalg.norm(projection.points - projection.points[row], axis=1)
        shares.append(len(np.intersect1d(nearest, np.argsort(distances)[1 : NEIGHBOURS + 1])) / NEIGHBOURS)
    return float(np.mean(shares))


def measure_fit(vectors: Vectors) -> str:
    """Describe the seconds to fit and to project, and the share of neighbours kept."""
    basis = SpectralBasis.from_vectors(vectors)
    started = perf_counter()
    projection = Projection.fit(vectors, basis, threads=2)
    fitted = perf_counter()
    projection.project(vectors)
    projected = perf_counter()
    exact = faiss.IndexFlatIP(vectors.shape[1])
    exact.add(vectors)
    exact.search(vectors[:SAMPLE], NEIGHBOURS)
    exact_s = (perf_counter() - projected) * len(vectors) / SAMPLE
    return (
        f"fitted in {fitted - started:.1f} s, projected in {projected - fitted:.1f} s"
        f" (exact search for the {NEIGHBOURS} nearest of each: {exact_s:.1f} s);"
        f" {neighbours_kept(projection):.2f} of neighbours kept"
    )


def measure_page(vectors: Vectors, queries: Vectors, encoder: Encoder) -> str:
    """Describe the size of the map's data and the milliseconds of a frame in Chromium."""
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "large"
        publish_index(index, vectors, queries, encoder, IndexOptions(type="exact"), mapped=True)
        process, client = start(index)
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1400, "height": 900})
                with page.expect_response("**/api/map/points*") as response:
                    page.goto(f"http://{client.host}:{client.port}/map")
                fetched_bytes = len(response.value.body())
                page.wait_for_timeout(1_000)
                deltas = page.evaluate(MEASURE_FRAMES)
                browser.close()
        finally:
            process.terminate()
            process.wait(30)
    p95 = float(np.percentile(deltas, 95))
    return f"{fetched_bytes / 1024:.0f} KiB fetched; {median(deltas):.1f} ms per frame, 95th percentile {p95:.1f}"


def main() -> None:
    """Measure each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--sizes", default="10000,100000")
    options = parser.parse_args()
    encoder = Encoder.open("all-MiniLM-L6-v2")
    for size in map(int, options.sizes.split(",")):
        vectors, queries = corpus(options.embeddings, size)
        print(f"{size:,} vectors: {measure_fit(vectors)}", flush=True)
        print(f"{size:,} vectors: {measure_page(vectors, queries, encoder)}", flush=True)


if __name__ == "__main__":
    main()
