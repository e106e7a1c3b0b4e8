"""Encodes texts as unit vectors with any sentence-transformers model. Does not depend on indexes or domains."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from tokenizers import Tokenizer

from semsearch.encoders.locate import DEFAULT_MODEL, absolute_name, locate, resolve_device
from semsearch.encoders.onnx_cache import open_cached
from semsearch.encoders.runtime import Batch, Kind, Runtime, RuntimeChoice
from semsearch.encoders.token_vectors import QueryTokens, TokenCodes, quantize, query_tokens
from semsearch.errors import EncoderError, first_line
from semsearch.system.threads import available_cores, trim_arenas
from semsearch.types import Rows, Vectors, unit_rows

Result = TypeVar("Result")
Tokens = TypeVar("Tokens")


class EncodedPassages(NamedTuple):
    """Passages as an index stores them."""

    vectors: Vectors
    """(n, dim) float32, unit rows."""
    tokens: Sequence[TokenCodes] | None
    """n, the token vectors of each; None if they are not wanted."""


class EncodedQuery(NamedTuple):
    """A query as it is searched, before adaptation."""

    vector: Vectors
    """(dim,) float32, of unit length."""
    tokens: QueryTokens | None
    """Its token vectors; None if they are not wanted."""

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.vector.nbytes + (0 if self.tokens is None else self.tokens.nbytes)


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
        dimension: int | None = None,
    ) -> None:
        """Wrap a loaded model.

        prompts: replace some of the model's own.
        document_tokens: tokens of a batch of documents, by default the runtime's.
        dimension: as for `open`. Raises EncoderError if the model's vectors have fewer.
        """
        info = runtime.info
        if dimension is not None and not 1 <= dimension <= info.dimension:
            raise EncoderError(
                f"encoder {name!r} gives vectors of {info.dimension} dimensions, which cannot be cut to {dimension}:"
                f" choose a dimension from 1 to {info.dimension}"
            )
        self.name = name
        self.runtime = runtime
        self.prompts: Mapping[str, str] = {**info.prompts, **(prompts or {})}
        self.tokenizer: Tokenizer = info.tokenizer
        """The model's tokenizer, without truncation and padding."""
        self.window = info.window
        """Number of tokens that the model reads of a text, special tokens included; the rest is cut."""
        self.dimension = dimension or info.dimension
        self.weights_sha256 = info.weights_sha256
        """Of names, types, shapes and bytes of all parameters as loaded, whatever file they came from."""
        self.configuration_sha256 = info.configuration_sha256
        """Of the tokenizer and the modules; None for an object of the caller."""
        self.batch_tokens: Mapping[Kind, int] = {
            "query": runtime.query_tokens,
            "document": document_tokens or runtime.document_tokens,
        }
        """Tokens of a batch, padding included."""
        self._pool: ThreadPoolExecutor | None = None
        self._pool_lock = threading.Lock()

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
        dimension: int | None = None,
    ) -> Encoder:
        """Load a model by name or by folder.

        name: `all-MiniLM-L6-v2` (its weights come with the installation), a folder, or a name on the model hub.
        device: `auto` (CUDA if there is one, else the CPU) or any torch device.
        threads: CPU threads that encode, by default all cores that this process may use.
        prompts: `query` and `document` prefixes that replace the model's own.
        runtime: library that runs the model on a CPU, by default the fastest whose vectors equal those of torch.
        document_tokens: tokens of a batch of documents, by default chosen for the device.
        dimension: vectors are cut to their first numbers, this many, and scaled to unit length again. That loses little
        with a model that was trained for it (Matryoshka representations, Kusupati et al. 2022, arXiv:2205.13147), much
        with others. By default they are not cut.

        When a model is first opened on a machine with ONNX Runtime, it is exported, checked and measured, which takes a
        minute; the result is cached in `onnx_cache.cache_root()`.

        Raises EncoderError if the model cannot be found or is damaged, the device does not exist, the runtime cannot
        run the model, or its vectors have fewer dimensions.
        """
        name = absolute_name(name)
        device, location = resolve_device(device), locate(name)
        threads = threads or available_cores()
        opened, reason = (None, "of the device") if device != "cpu" else open_cached(location, runtime, threads=threads)
        if opened is None:
            if runtime in {"onnx", "onnx-int8"}:
                raise EncoderError(f"encoder {name!r} cannot be run by {runtime} ({reason}): use runtime 'auto'")
            from semsearch.encoders.torch_runtime import TorchRuntime

            opened = TorchRuntime.open(location, name=name, device=device, threads=threads, reason=reason)
        return cls(opened, name=name, prompts=prompts, document_tokens=document_tokens, dimension=dimension)

    @property
    def workers(self) -> int:
        """Number of threads that should encode at once, each with its own batch."""
        return self.runtime.workers

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, unit rows in the order of `texts`, each with the model's query prompt.

        Raises EncoderError if the model fails or returns values that are not finite.
        """
        return self._encode("query", texts)

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, unit rows in the order of `texts`, each with the model's document prompt.

        Raises EncoderError if the model fails or returns values that are not finite.
        """
        return self._encode("document", texts)

    @property
    def has_token_vectors(self) -> bool:
        """Whether texts can be compared by their tokens: the model's vectors are means of token vectors."""
        return self.runtime.info.pools_by_mean

    def encode_passages(self, texts: Sequence[str], *, with_tokens: bool) -> EncodedPassages:
        """Encode documents with the model's document prompt. with_tokens: only if `has_token_vectors`.

        Raises EncoderError if the model fails or returns values that are not finite.
        """
        if not with_tokens:
            return EncodedPassages(self._encode("document", texts), None)
        return EncodedPassages(*self._encode_with_tokens("document", texts, quantize))

    def encode_for_search(self, texts: Sequence[str], *, with_tokens: bool) -> list[EncodedQuery]:
        """Encode n queries as `encode_queries` does. with_tokens: only if `has_token_vectors`.

        Raises EncoderError if the model fails or returns values that are not finite.
        """
        if not with_tokens:
            return [EncodedQuery(vector.copy(), None) for vector in self._encode("query", texts)]
        vectors, tokens = self._encode_with_tokens("query", texts, query_tokens)
        # copies: a view would keep the vectors of the whole batch in memory
        return [EncodedQuery(vector.copy(), rows) for vector, rows in zip(vectors, tokens, strict=True)]

    def plan_batches(self, kind: Kind, tokens: Rows) -> list[Rows]:
        """Plan efficient batches and return the indices of the texts of each; the longest texts come first.

        tokens: (n,) number of tokens of each text, without special tokens and prompt.
        """
        added = self.window - self.available_tokens(kind)
        return self._plan(kind, np.minimum(tokens + added, self.window))

    def submit(self, texts: Sequence[str], *, kind: Kind = "document") -> Future[Vectors]:
        """Encode texts on one of the encoder's `workers` threads, after those that were submitted before.

        The future gives what `encode_documents` or `encode_queries` returns.
        """
        return self._threads().submit(self._encode, kind, texts)

    def submit_passages(self, texts: Sequence[str], *, with_tokens: bool) -> Future[EncodedPassages]:
        """As `submit`, for what `encode_passages` returns."""
        return self._threads().submit(self.encode_passages, texts, with_tokens=with_tokens)

    def release_memory(self) -> None:
        """Return memory that was used for batches to the system. Call it when many have been encoded.

        Raises EncoderError if the model fails.
        """
        try:
            self.runtime.release_memory()
        except RuntimeError as error:
            raise EncoderError(f"encoder {self.name!r} failed ({first_line(error)})") from error
        trim_arenas()

    def encode_all(self, kind: Kind, texts: Sequence[str]) -> Vectors:
        """As `encode_documents` or `encode_queries`, for any number of texts, on all worker threads."""
        vectors = np.empty((len(texts), self.dimension), np.float32)
        batches = self.plan_batches(kind, np.array(self.count_tokens(texts), np.int64))
        futures = [self.submit([texts[row] for row in rows], kind=kind) for rows in batches]
        for rows, future in zip(batches, futures, strict=True):
            vectors[rows] = future.result()
        return vectors

    def encode_all_passages(self, texts: Sequence[str], *, with_tokens: bool) -> EncodedPassages:
        """As `encode_passages`, for any number of texts, on all worker threads."""
        batches = self.plan_batches("document", np.array(self.count_tokens(texts), np.int64))
        futures = [self.submit_passages([texts[row] for row in rows], with_tokens=with_tokens) for rows in batches]
        vectors, tokens = np.empty((len(texts), self.dimension), np.float32), dict[int, TokenCodes]()
        for rows, future in zip(batches, futures, strict=True):
            encoded = future.result()
            vectors[rows] = encoded.vectors
            tokens.update(zip(rows.tolist(), encoded.tokens or (), strict=with_tokens))
        return EncodedPassages(vectors, [tokens[row] for row in range(len(texts))] if with_tokens else None)

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
        for rows in self._plan("document", everything.lengths):
            batch = everything.part(rows.tolist())
            result = run(partial(self._batch_attributions, batch, vector), len(rows) * int(batch.lengths.max()))
            if result is None:
                return None
            attributions.update(zip(rows.tolist(), result, strict=True))
        return [attributions[row] for row in range(len(texts))]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text, without special tokens and prompt."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding) for encoding in encodings]

    def available_tokens(self, kind: Kind) -> int:
        """Number of tokens that a text may have besides the special tokens and the prompt."""
        prompt = self.count_tokens([self.prompts[kind]])[0] if self.prompts[kind] else 0
        return self.window - self.tokenizer.num_special_tokens_to_add(is_pair=False) - prompt

    def _batch_attributions(self, batch: Batch, vector: Vectors) -> list[list[tuple[int, int, float]]] | None:
        attributions = []
        for text, tokens in zip(batch.texts, self.runtime.tokens(batch), strict=True):
            rows = tokens[:, : self.dimension]
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

    def _threads(self) -> ThreadPoolExecutor:
        with self._pool_lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="encoder")
        return self._pool

    def _encode(self, kind: Kind, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self.dimension), np.float32)
        everything = Batch.of(kind, self.prompts[kind], texts, self.runtime.info)
        for rows in self._plan(kind, everything.lengths):
            vectors[rows] = self._run(everything.part(rows.tolist()))
        return vectors

    def _encode_with_tokens(
        self, kind: Kind, texts: Sequence[str], convert: Callable[[Vectors], Tokens]
    ) -> tuple[Vectors, list[Tokens]]:
        """Return (n, dim) unit rows, and for each text what `convert` makes of its (tokens, dim) vectors."""
        vectors, tokens = np.empty((len(texts), self.dimension), np.float32), dict[int, Tokens]()
        everything = Batch.of(kind, self.prompts[kind], texts, self.runtime.info)
        for rows in self._plan(kind, everything.lengths):
            batch = everything.part(rows.tolist())
            batch_vectors, batch_tokens = self._call(partial(self.runtime.vectors_and_tokens, batch), batch)
            vectors[rows] = self._unit(batch_vectors)
            for row, of_text in zip(rows.tolist(), _of_words(batch, batch_tokens), strict=True):
                tokens[row] = convert(of_text[:, : self.dimension])
        return vectors, [tokens[row] for row in range(len(texts))]

    def _plan(self, kind: Kind, lengths: Rows) -> list[Rows]:
        return plan_batches(lengths, self.batch_tokens[kind], overhead=self.runtime.overhead_tokens)

    def _run(self, batch: Batch) -> Vectors:
        return self._unit(self._call(partial(self.runtime.vectors, batch), batch))

    def _call(self, compute: Callable[[], Result], batch: Batch) -> Result:
        try:
            return compute()
        except RuntimeError as error:
            raise EncoderError(
                f"encoder {self.name!r} failed on {len(batch.texts)} texts ({first_line(error)}): if memory is"
                " short, encode fewer together"
            ) from error

    def _unit(self, vectors: Vectors) -> Vectors:
        """Cut vectors to the encoder's dimension and to unit length."""
        vectors = vectors[:, : self.dimension]
        with np.errstate(over="ignore"):
            norms = np.linalg.norm(vectors, axis=1)
        if not np.isfinite(norms).all():
            raise EncoderError(f"encoder {self.name!r} gave vectors that are not finite: its weights are damaged")
        # in float32, so that rows are of unit length in whatever precision the model ran
        return unit_rows(vectors)


def _of_words(batch: Batch, tokens: Sequence[Vectors]) -> list[Vectors]:
    """Return those token vectors of each text, (tokens, dim), that stand for a letter or a digit of it."""
    chosen = []
    for text, encoding, rows in zip(batch.texts, batch.encodings, tokens, strict=True):
        prompt = len(batch.prompt)
        spans = [(start - prompt, stop - prompt) for start, stop in encoding.offsets[: len(rows)]]
        # some tokenizers count the blank before a word to it: the first one may begin in the prompt
        of_words = [stop > 0 and any(map(str.isalnum, text[max(start, 0) : stop])) for start, stop in spans]
        chosen.append(rows[: len(spans)][of_words])
    return chosen


def plan_batches(lengths: Rows, max_tokens: int, *, overhead: int = 0) -> list[Rows]:
    """Plan batches of texts of similar length and return the indices of the texts of each, the longest first.

    lengths: (n,) tokens of each text. max_tokens: of a batch, padding included; a longer text is a batch alone.
    overhead: the fixed cost of a batch, in tokens. A batch ends early if padding the texts that may follow would cost
    more than a batch of their own.
    """
    order = np.argsort(-lengths, kind="stable")
    descending = lengths[order].tolist()
    batches, start = [], 0
    while start < len(descending):
        longest = max(1, descending[start])
        last = min(len(descending), start + max(1, max_tokens // longest))
        stop = start + 1
        while stop < last and (longest - descending[stop]) * (last - stop) <= overhead:
            stop += 1
        batches.append(order[start:stop])
        start = stop
    return batches
