"""Training weights, saving and reading them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from semsearch.adapters.weights import DEFAULT_WEIGHTS, Weights
from semsearch.errors import LabelError, WeightsError
from semsearch.metalearn.episodes import Dataset
from semsearch.metalearn.outer_loop import OuterLoopSettings, Step
from semsearch.metalearn.training import GuardTrial, folds, train
from tests.adapters.worlds import domain

BRIEF = OuterLoopSettings(learners=("listwise",), steps=4, episodes=1, every=2)


def worlds() -> list[Dataset]:
    return [domain(seed, name=f"w{seed}", family=f"f{seed // 2}", queries=60) for seed in range(6)]


@pytest.fixture(scope="module")
def weights() -> Weights:
    *_, last = train(worlds(), BRIEF, about={"encoder": "made up"}, trial_seeds=1)
    assert isinstance(last, Weights)
    return last


def test_training_yields_its_progress_and_weights_with_their_provenance() -> None:
    *events, weights = train(worlds(), BRIEF, about={"encoder": "made up"}, left_out=["f1"], trial_seeds=1)
    assert [event.number for event in events if isinstance(event, Step)] == [1, 2, 3, 4]
    trials = [event for event in events if isinstance(event, GuardTrial)]
    assert [(trial.dataset, trial.number, trial.total) for trial in trials] == [
        ("w0", 1, 4),
        ("w1", 2, 4),
        ("w4", 3, 4),
        ("w5", 4, 4),
    ]
    assert isinstance(weights, Weights)
    assert weights.metadata["families"] == ["f0", "f2"]
    assert weights.metadata["left_out"] == ["f1"]
    assert weights.metadata["open_licence"] is True
    assert weights.metadata["dimension"] == 24


def test_saved_weights_give_the_same_verdict(tmp_path: Path, weights: Weights) -> None:
    weights.save(tmp_path / "w.safetensors")
    opened = Weights.open(tmp_path / "w.safetensors")
    assert dict(opened.metadata) == dict(weights.metadata)
    assert list(opened.candidates) == list(weights.candidates)
    world = domain(0)
    support = world.support(np.arange(32), max_documents=500)
    verdict, expected = opened.adapt(world.basis, support), weights.adapt(world.basis, support)
    assert verdict.candidate == expected.candidate
    assert verdict.estimate == pytest.approx(expected.estimate, abs=1e-5)


def test_weights_with_the_keys_of_version_0_1_are_read(tmp_path: Path, weights: Weights) -> None:
    path = tmp_path / "w.safetensors"
    weights.save(path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["semsearch"])
        tensors = {
            name.replace("meta_parameters/", "start/").replace("context_slope_", "tilt_"): file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118 (no mapping)
        }
    assert "start/listwise/tilt_rate" in tensors
    former = {"shrinkage": "contraction", "min_labels": "fewest", "max_labels": "most"}
    header["candidates"] = [
        {former.get(key, key): value for key, value in candidate.items()} for candidate in header["candidates"]
    ]
    assert header["candidates"][0].keys() == {"member", "contraction", "rate", "fewest", "most"}
    save_file(tensors, path, metadata={"semsearch": json.dumps(header)})
    opened = Weights.open(path)
    assert list(opened.candidates) == list(weights.candidates)
    for key, value in weights.meta_parameters["listwise"].items():
        assert torch.equal(opened.meta_parameters["listwise"][key], value)


def test_a_resumed_training_reuses_its_trials(tmp_path: Path, weights: Weights) -> None:
    for event in train(worlds(), BRIEF, about={"encoder": "made up"}, checkpoint=tmp_path, trial_seeds=1):
        if isinstance(event, GuardTrial) and event.number == 3:
            break
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("trials-*.json")}
    *_, resumed = train(worlds(), BRIEF, about={"encoder": "made up"}, checkpoint=tmp_path, trial_seeds=1)
    assert len(before) == 3
    assert all((tmp_path / name).stat().st_mtime_ns == when for name, when in before.items())
    assert isinstance(resumed, Weights)
    np.testing.assert_allclose(resumed.prior.mean, weights.prior.mean)


@pytest.mark.parametrize("dimension", [12, 48])
def test_the_numbers_of_the_candidates_serve_encoders_of_any_dimension(weights: Weights, dimension: int) -> None:
    other = domain(0, dimension=dimension)
    verdict = weights.adapt(other.basis, other.support(np.arange(24), max_documents=100))
    assert verdict.state.dimension == dimension
    assert np.isfinite(verdict.estimate)


def test_vectors_of_another_dimension_are_refused(weights: Weights) -> None:
    film = {"scale": np.zeros(24, np.float32), "shift": np.zeros(24, np.float32)}
    with_vectors = replace(weights, arrays={**weights.arrays, "film": film})
    with_vectors.check_dimension(24)
    other = domain(0, dimension=12)
    with pytest.raises(WeightsError, match=r"'film' of the weights holds vectors of shape \(24,\), the index has 12"):
        with_vectors.adapt(other.basis, other.support(np.arange(8), max_documents=100))


@pytest.mark.parametrize("content", [b"", b"\x00" * 64])
def test_a_file_without_weights_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(WeightsError, match="w holds no weights"):
        Weights.open(tmp_path / "w")
    with pytest.raises(WeightsError, match="absent holds no weights"):
        Weights.open(tmp_path / "absent")


def test_every_family_is_in_one_fold() -> None:
    groups = folds(worlds(), 2, seed=0)
    assert sorted(family for group in groups for family in group) == ["f0", "f1", "f2"]
    assert folds(worlds(), None, seed=0) == [["f0"], ["f1"], ["f2"]]
    with pytest.raises(LabelError, match="4 folds of 3 families"):
        folds(worlds(), 4, seed=0)


def test_data_sets_too_small_for_trials_are_an_error() -> None:
    small = [domain(seed, name=f"w{seed}", queries=4) for seed in range(2)]
    with pytest.raises(LabelError, match="no data set has enough judged queries"):
        list(train(small, BRIEF, about={}, trial_seeds=1))


def test_training_without_labelled_data_sets_is_an_error() -> None:
    with pytest.raises(LabelError, match="no labelled data set is left"):
        next(train(worlds(), BRIEF, about={}, left_out=["f0", "f1", "f2"]))


def test_the_default_weights_are_openly_licensed_small_and_described() -> None:
    weights = Weights.open()
    assert weights.metadata["open_licence"] is True
    assert weights.metadata["dimension"] == 384
    assert DEFAULT_WEIGHTS.stat().st_size < 2**20
    card = (DEFAULT_WEIGHTS.parent / "README.md").read_text(encoding="utf-8")
    domains = weights.metadata["domains"]
    assert isinstance(domains, list)
    assert all(f"`{name}`" in card for name in domains)
