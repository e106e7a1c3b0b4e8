"""The process that adapts: the same verdicts as here, and nobody left behind."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semsearch.adaptation.process import AdaptingProcess
from semsearch.learning.meta import Settings
from semsearch.learning.training import train
from semsearch.learning.weights import Weights
from semsearch.records import WeightsError
from tests.learning.worlds import domain


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    worlds = [domain(seed, name=f"w{seed}", family=f"f{seed}", dialect=float(seed % 2)) for seed in range(4)]
    *_, last = train(worlds, Settings(members=("listwise",), steps=2, every=2), about={}, trial_seeds=1)
    assert isinstance(last, Weights)
    made = tmp_path_factory.mktemp("weights") / "w.safetensors"
    last.save(made)
    return made


def test_it_decides_as_this_process_would_survives_a_death_and_passes_errors_on(path: Path) -> None:
    world = domain(1, dialect=1.0)
    complete = world.support(np.arange(30), most=500)
    unknown = (complete.queries @ complete.documents.T > 0.2) & (complete.gains == 0)
    partial = replace(complete, unknown=unknown)
    verdicts = [Weights.open(path).adapt(world.basis, support) for support in (complete, partial)]
    assert verdicts[0].as_json() != verdicts[1].as_json()
    process = AdaptingProcess(path)
    try:
        for support, here in zip((complete, partial), verdicts, strict=True):
            there = process(world.basis, support, None)
            assert there.as_json() == here.as_json()
            assert there.state.to_bytes({}) == here.state.to_bytes({})
            [worker] = process._pool._processes  # the pool's only one
            os.kill(worker, signal.SIGKILL)
        with pytest.raises(WeightsError, match="learned for 24 dimensions, the index has 16"):
            process(domain(1, dimension=16).basis, complete, None)
    finally:
        process.close()
