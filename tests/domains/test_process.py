"""The process that adapts: the same verdicts as here, and nobody left behind."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semsearch.adapters.weights import Weights
from semsearch.domains.process import AdaptationProcess
from semsearch.errors import WeightsError
from semsearch.metalearn.outer_loop import OuterLoopSettings
from semsearch.metalearn.training import train
from tests.adapters.worlds import domain


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    worlds = [domain(seed, name=f"w{seed}", family=f"f{seed}", dialect=float(seed % 2)) for seed in range(4)]
    *_, last = train(worlds, OuterLoopSettings(learners=("listwise",), steps=2, every=2), about={}, trial_seeds=1)
    assert isinstance(last, Weights)
    made = tmp_path_factory.mktemp("weights") / "w.safetensors"
    last.save(made)
    return made


def test_it_decides_as_this_process_would_survives_a_death_and_passes_errors_on(path: Path) -> None:
    world = domain(1, dialect=1.0)
    complete = world.support(np.arange(30), max_documents=500)
    unknown = (complete.queries @ complete.documents.T > 0.2) & (complete.relevance == 0)
    partial = replace(complete, unjudged=unknown)
    here = Weights.open(path)
    parent = replace(here.adapt(world.basis, complete).state, lexical_weight=0.4)
    given = [(complete, None, None), (partial, None, None), (partial, parent, [here.candidates[0].name])]
    verdicts = [here.adapt(world.basis, *one) for one in given]
    assert len({str(verdict.as_json()) for verdict in verdicts}) == 3
    process = AdaptationProcess(path)
    try:
        for one, expected in zip(given, verdicts, strict=True):
            there = process(world.basis, *one)
            assert there.as_json() == expected.as_json()
            assert there.state.to_bytes({}) == expected.state.to_bytes({})
            [worker] = process._pool._processes  # the pool's only one
            os.kill(worker, signal.SIGKILL)
        with pytest.raises(WeightsError, match="learned for 24 dimensions, the index has 16"):
            process(domain(1, dimension=16).basis, complete, None)
    finally:
        process.close()
