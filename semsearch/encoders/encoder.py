"""Texts to unit vectors, with any sentence-transformers model. Does not depend on indexes or domains."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from tokenizers import Tokenizer

from semsearch.encoders.locate import DEFAULT_MODEL, locate, resolve_device
from semsearch.encoders.onnx_cache import open_cached
from semsearch.encoders.runtime import Batch, Kind, Runtime, RuntimeChoice
from semsearch.errors import EncoderError, first_line
from semsearch.system.threads import available_cores
from semsearch.types import Rows, Vectors, unit_rows

Result = TypeVar("Result")


class RunBatch(Protocol):
    """Runs one batch of a computation that has several, such as on a server's queue."""

    def __call__(self, compute: Callable[[], Result], tokens: int, /) -> Result:
        """Return what `compute` returns. tokens: number of tokens that the encoder reads, padding included."""


def run_now(compute: Callable[[], Result], _tokens: int) -> Result:
    """Run a batch at once, on the calling thread."""
    return compute()


class Encoder:
    """A sentence-transformers model with its own prompts for queries and for documents.

    All methods may be called on several threads at once.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        name: str,
        prompts: Mapping[str, str] | None = None,
        document_tokens: int | None = None,
    ) -> None:
        """Take a model that is loaded. prompts: in place of some of its own."""
        facts = runtime.info
        self.name = name
        self.runtime = runtime
        self.prompts: Mapping[str, str] = {**facts.prompts, **(prompts or {})}
        self.tokenizer: Tokenizer = facts.tokenizer
        """Counts tokens as the model does, without cutting or padding."""
        self.window = facts.window
        """Tokens that the model reads of a text, its special tokens included; the rest is cut."""
        self.dimension = facts.dimension
        self.weights_sha256 = facts.weights_sha256
        """Over names, types, shapes and bytes of all parameters as loaded, whatever file they came from."""
        self.batch_tokens: Mapping[Kind, int] = {
            "query": runtime.query_tokens,
            "document": document_tokens or runtime.document_tokens,
        }
        """Tokens that go through the model together, padding included."""
        self._pool: ThreadPoolExecutor | None = None
        self._making = threading.Lock()

    @classmethod
    def open(
        cls,
        name: str = DEFAULT_MODEL,
        *,
        device: str = "auto",
        threads: int | None = None,
        prompts: Mapping[str, str] | None = None,
        runtime: RuntimeChoice = "auto",
        document_tokens: int | None = None,
    ) -> Encoder:
        """Load a model by name or by folder.

        name: `all-MiniLM-L6-v2` (its weights come with the installation), a folder, or a name on the model hub.
        device: `auto` (CUDA where there is one, else the CPU) or any torch device.
        threads: CPU threads that encode, by default all cores this process may use.
        prompts: `query` and `document` prefixes in place of the model's own.
        runtime: on a CPU what runs the model, by default the fastest that gives what torch gives.
        document_tokens: tokens of documents that go through the model together, by default what suits the device.

        The first time that a model is opened on a machine with ONNX Runtime it is exported, checked and measured,
        which takes a while; what comes of it is kept in `runtimes.prepared.cache`.

        Raises EncoderError if the model cannot be found, is damaged, the device does not exist, or the runtime that was
        named cannot run the model.
        """
        chosen, place = resolve_device(device), locate(name)
        threads = threads or available_cores()
        found, why = (None, "of the device") if chosen != "cpu" else open_cached(place, runtime, threads=threads)
        if found is None:
            if runtime in {"onnx", "onnx-int8"}:
                raise EncoderError(f"encoder {name!r} cannot be run by {runtime} ({why}): leave it to runtime 'auto'")
            from semsearch.encoders.torch_runtime import TorchRuntime

            found = TorchRuntime.open(place, name=name, device=chosen, threads=threads, why=why)
        return cls(found, name=name, prompts=prompts, document_tokens=document_tokens)

    @property
    def workers(self) -> int:
        """Threads on which `encode_queries` and `encode_documents` are called best, each with a batch of its own."""
        return self.runtime.workers

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, unit rows in the order of `texts`, each with the model's query prompt.

        Raises EncoderError where the model fails, or gives what is no vector.
        """
        return self._encode("query", texts)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, unit rows in the order of `texts`, each with the model's document prompt.

        Raises EncoderError where the model fails, or gives what is no vector.
        """
        return self._encode("document", texts)

    def plan_batches(self, kind: Kind, tokens: Rows) -> list[Rows]:
        """Places of texts in the batches that are encoded best, the longest first.

        tokens: (n,) of each, special tokens and prompts not included.
        """
        beside = self.window - self.available_tokens(kind)
        return self._batches_of(kind, np.minimum(tokens + beside, self.window))

    def submit(self, texts: Sequence[str], *, kind: Kind = "document") -> Future[Vectors]:
        """What `encode_documents` gives, or `encode_queries`, once it is there: it is encoded on one of as many other
        threads as there are workers, after what was asked for before."""
        with self._making:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="encoder")
        return self._pool.submit(self._encode, kind, texts)

    def encode_all(self, kind: Kind, texts: Sequence[str]) -> Vectors:
        """As `encode_documents` or `encode_queries`, of any number of texts, on all those threads."""
        vectors = np.empty((len(texts), self.dimension), np.float32)
        places = self.plan_batches(kind, np.array(self.count_tokens(texts), np.int64))
        waiting = [self.submit([texts[row] for row in rows], kind=kind) for rows in places]
        for rows, found in zip(places, waiting, strict=True):
            vectors[rows] = found.result()
        return vectors

    def token_attributions(
        self, texts: Sequence[str], vector: Vectors, *, run: RunBatch = run_now
    ) -> list[list[tuple[int, int, float]]] | None:
        """How much each token of a document's text adds to its cosine with a vector.

        vector: (dim,) float32, of unit length.
        run: runs the batches, one after another; by default at once, on this thread.

        Returns for each text (first character, one past the last, share) of each token. Shares of a text add up to its
        cosine, except for what special tokens and the prompt add. None for a model that does not pool by the mean.
        """
        if not self.runtime.info.pools_by_mean:
            return None
        everything = Batch.of("document", self.prompts["document"], texts, self.runtime.info)
        attributions: dict[int, list[tuple[int, int, float]]] = {}
        for rows in self._batches_of("document", everything.lengths):
            batch = everything.part(rows.tolist())
            result = run(partial(self._batch_attributions, batch, vector), len(rows) * int(batch.lengths.max()))
            if result is None:
                return None
            attributions.update(zip(rows.tolist(), result, strict=True))
        return [attributions[row] for row in range(len(texts))]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens and prompts not included."""
        found = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding) for encoding in found]

    def available_tokens(self, kind: Kind) -> int:
        """Tokens of the window that are left to a text once the special tokens and the prompt have theirs."""
        prompt = self.count_tokens([self.prompts[kind]])[0] if self.prompts[kind] else 0
        return self.window - self.tokenizer.num_special_tokens_to_add(is_pair=False) - prompt

    def _batch_attributions(self, batch: Batch, vector: Vectors) -> list[list[tuple[int, int, float]]] | None:
        attributions = []
        for text, rows in zip(batch.texts, self.runtime.tokens(batch), strict=True):
            norm = float(np.linalg.norm(rows.mean(axis=0)))
            spans = self.tokenizer.encode(batch.prompt + text).offsets
            if not norm or len(spans) < len(rows):
                return None
            shares = rows @ vector / (len(rows) * norm)
            # the last token of a text that was cut is the special token that ends it
            spans = [*spans[: len(rows) - 1], spans[-1]]
            prompt = len(batch.prompt)
            attributions.append(
                [
                    (start - prompt, stop - prompt, float(share))
                    for (start, stop), share in zip(spans, shares, strict=True)
                    if stop > start >= prompt
                ]
            )
        return attributions

    def _encode(self, kind: Kind, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self.dimension), np.float32)
        everything = Batch.of(kind, self.prompts[kind], texts, self.runtime.info)
        for rows in self._batches_of(kind, everything.lengths):
            vectors[rows] = self._run(everything.part(rows.tolist()))
        return vectors

    def _batches_of(self, kind: Kind, lengths: Rows) -> list[Rows]:
        return plan_batches(lengths, self.batch_tokens[kind], overhead=self.runtime.overhead_tokens)

    def _run(self, batch: Batch) -> Vectors:
        try:
            found = self.runtime.vectors(batch)
        except RuntimeError as error:
            raise EncoderError(
                f"encoder {self.name!r} failed on {len(batch.texts)} texts ({first_line(error)}): where memory is"
                " short, encode fewer together"
            ) from error
        with np.errstate(over="ignore"):
            lengths = np.linalg.norm(found, axis=1)
        if not np.isfinite(lengths).all():
            raise EncoderError(f"encoder {self.name!r} gave vectors that are not finite: its weights are damaged")
        # normalised in float32, so that rows are of unit length whatever precision the model ran in
        return unit_rows(found)


def plan_batches(lengths: Rows, most: int, *, overhead: int = 0) -> list[Rows]:
    """Places of texts in batches of like length, the longest first: of each, texts times its longest is at most `most`,
    but for texts that are longer alone.

    overhead: tokens that cost as much as a batch does beside its tokens. A batch ends early where filling up those that
    may follow would cost more than a batch of their own.
    """
    order = np.argsort(-lengths, kind="stable")
    falling = lengths[order].tolist()
    found, start = [], 0
    while start < len(falling):
        longest = max(1, falling[start])
        last = min(len(falling), start + max(1, most // longest))
        stop = start + 1
        while stop < last and (longest - falling[stop]) * (last - stop) <= overhead:
            stop += 1
        found.append(order[start:stop])
        start = stop
    return found
