"""The adaptation process gives the verdicts that `Weights.adapt` gives."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
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


def test_it_gives_the_same_verdicts_restarts_after_a_crash_and_passes_errors_on(path: Path) -> None:
    world = domain(1, dialect=1.0)
    complete = world.support(np.arange(30), max_documents=500)
    unjudged = (complete.queries @ complete.documents.T > 0.2) & (complete.relevance == 0)
    partial = replace(complete, unjudged=unjudged)
    weights = Weights.open(path)
    parent = replace(weights.adapt(world.basis, complete).state, lexical_weight=0.4)
    cases = [(complete, None, None), (partial, None, None), (partial, parent, [weights.candidates[0].name])]
    verdicts = [weights.adapt(world.basis, *case) for case in cases]
    assert len({str(verdict.as_json()) for verdict in verdicts}) == 3
    process = AdaptationProcess(path)
    try:
        for case, expected in zip(cases, verdicts, strict=True):
            verdict = process(world.basis, *case)
            assert verdict.as_json() == expected.as_json()
            assert verdict.state.to_bytes({}) == expected.state.to_bytes({})
            [worker] = process._pool._processes  # the pool has one process
            os.kill(worker, signal.SIGKILL)
        with pytest.raises(WeightsError, match="no learner 'magic'"):
            process(world.basis, complete, None, ["magic"])
    finally:
        process.close()


def test_closing_ends_it_in_the_midst_of_an_adaptation(path: Path) -> None:
    world = domain(1, dialect=1.0)
    support = world.support(np.arange(30), max_documents=500)
    process = AdaptationProcess(path)
    process(world.basis, support)
    [worker] = process._pool._processes
    os.kill(worker, signal.SIGSTOP)  # an adaptation that does not end
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(process, world.basis, support)
        while not process._pool._pending_work_items:
            threading.Event().wait(0.01)
        process.close()
        assert isinstance(running.exception(10), BrokenProcessPool | CancelledError)
    assert not multiprocessing.active_children()
