"""Identifies what turns texts into vectors besides a model's parameters: its tokenizer and its modules."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from semsearch.errors import EncoderError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PROBES = (
    "How do I reset my PIN? It's 3.14 € (£2), isn't it?",
    "Größenänderung naïve façade Škoda ﬁ ①",
    "数据库索引 كيف يعمل البحث поиск データ",
    "  spaces\tand\nlines 😀 def f(x): return x**2",
)
"""Texts on which tokenizers differ."""
MAX_TOKENS = 32_768
"""Entries of the vocabulary that are compared, evenly spread: a larger one would take long."""
MODEL_FIELDS = ("model_type", "hidden_act", "num_attention_heads", "layer_norm_eps")
"""Fields of a transformer's configuration that change its vectors and leave its parameters as they are."""


def configuration_sha256(model: SentenceTransformer, tokenizer: Tokenizer, *, window: int) -> str:
    """SHA-256 of what a model does with texts besides its parameters, whatever files it was loaded from.

    It is of the tokenizer's vocabulary and the tokens of probe texts, of the kinds of the model's modules with their
    pooling, activations and prompts, and of the window. It does not depend on the machine, the device or the runtime,
    nor on how a version of a library writes its files.
    """
    size = tokenizer.get_vocab_size()
    vocabulary = [tokenizer.id_to_token(token) for token in range(0, size, -(-size // MAX_TOKENS) or 1)]
    parts: list[Any] = list(model.modules())
    transformers: list[Any] = [module for module in model if hasattr(module, "auto_model")]
    configuration = {
        "vocabulary": [size, vocabulary],
        "tokens": [encoding.ids for encoding in tokenizer.encode_batch(list(PROBES))],
        "window": window,
        "modules": [type(module).__name__ for module in model],
        "pooling": [
            [part.pooling_mode, bool(getattr(part, "include_prompt", True))]
            for part in parts
            if hasattr(part, "pooling_mode")
        ],
        "activations": [
            type(part.activation_function).__name__ for part in parts if hasattr(part, "activation_function")
        ],
        "transformers": [
            [getattr(module.auto_model.config, field, None) for field in MODEL_FIELDS] for module in transformers
        ],
    }
    return hashlib.sha256(json.dumps(configuration).encode()).hexdigest()


def check_vocabulary(model: SentenceTransformer, tokenizer: Tokenizer, *, name: str) -> None:
    """Raise EncoderError if a tokenizer has too few tokens to be the model's, such as without its files.

    Models have at most some spare rows in their embedding matrix, never half of it.
    """
    first: Any = model[0]
    try:
        # of a transformer, or of a model of word vectors
        embeddings = first.auto_model.get_input_embeddings() if hasattr(first, "auto_model") else first.embedding
        rows = int(embeddings.num_embeddings)
    except (AttributeError, NotImplementedError):
        return  # a model of another kind
    size = tokenizer.get_vocab_size()
    if size < rows / 2:
        raise EncoderError(
            f"encoder {name!r} has a tokenizer of {size:,} tokens, but embeddings of {rows:,}: put the tokenizer's"
            " files back into the model's folder, such as tokenizer.json or vocab.txt"
        )
