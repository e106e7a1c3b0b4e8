"""Domains on disk: versions, parents, damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semsearch.adapters.state import DomainState
from semsearch.errors import StateError
from semsearch.storage.domains import MAX_STATES, DomainStore


def state(gain: float) -> DomainState:
    made = DomainState.identity(4)
    return DomainState(
        made.spectral_gains * np.float32(gain), shrinkage=made.shrinkage, keys=made.keys, values=made.values,
        shift=made.shift, sharpness=made.sharpness,
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> DomainStore:
    return DomainStore(tmp_path, encoder_sha256="e")


def test_a_version_serves_until_the_next_and_is_read_back(store: DomainStore, tmp_path: Path) -> None:
    store.append("team", "adapted", explanation="one", state=state(1), learner="listwise", labels=8, last_entry=9)
    store.append("team", "adapted", explanation="two", state=state(2), learner="listwise", verdict={"estimate": 0.1})
    again = DomainStore(tmp_path, encoder_sha256="e")
    serving = again.domain_adapter("team")
    assert serving.state is not None
    assert (serving.domain, serving.version, serving.learner, serving.reason) == ("team", 2, "listwise", "two")
    assert serving.state.spectral_gains.tolist() == [2.0] * 4
    first = again.record("team").versions[0]
    found = again.state("team", first)
    assert found is not None
    assert (first.last_entry, found.spectral_gains.tolist()) == (9, [1.0] * 4)
    store.append("team", "declined", explanation="no", state=None)
    assert (store.domain_adapter("team").state, store.domain_adapter("team").reason) == (None, "no")


def test_odd_names_survive_and_impossible_ones_are_refused(store: DomainStore) -> None:
    names = ["..a", "a/b", "ünï", "x.y", "CON", "a b", "%2F"]
    for name in names[1:]:
        store.append(name, "adapted", explanation="", state=state(1))
    assert store.names() == sorted(names[1:])
    for name in ("", "..a", "lock", "changed", "x" * 201, "ü" * 60):
        with pytest.raises(StateError, match="cannot be a domain's name"):
            store.append(name, "adapted", explanation="", state=state(1))


def test_old_states_go_and_their_versions_say_so(store: DomainStore) -> None:
    for number in range(MAX_STATES + 3):
        store.append("team", "adapted", explanation=str(number), state=state(number + 1))
    versions = store.record("team").versions
    assert len(versions) == MAX_STATES + 3
    assert [one.state is not None for one in versions] == [False] * 3 + [True] * MAX_STATES
    assert len(list((store.folder / "team").glob("*.safetensors"))) == MAX_STATES


def test_a_domain_inherits_from_the_nearest_ancestor_that_has_a_state(store: DomainStore) -> None:
    store.set_parent("ann", "team")
    store.set_parent("team", "all")
    assert store.domain_adapter("ann").reason == "nothing is known of this domain yet"
    store.append("all", "adapted", explanation="", state=state(3))
    assert (store.domain_adapter("ann").domain, store.domain_adapter("ann").reason) == ("all", "inherited from 'all'")
    store.append("team", "adapted", explanation="", state=state(2))
    assert store.domain_adapter("ann").domain == "team"
    store.append("ann", "declined", explanation="no", state=None)
    assert store.domain_adapter("ann").domain == "team"
    assert store.ancestors("ann") == ["team", "all"]
    assert store.children() == {"team": ["ann"], "all": ["team"]}
    served = store.domain_adapters(store.names())
    assert served["ann"].domain == "team"
    assert served["ann"].state is served["team"].state
    for above in ("ann", "team", "all"):
        with pytest.raises(StateError, match="its own ancestor"):
            store.set_parent("all", above)
    store.set_parent("ann", None)
    assert store.domain_adapter("ann").state is None


def test_a_line_of_ancestors_has_an_end(store: DomainStore) -> None:
    for number in range(7):
        store.set_parent(f"d{number}", f"d{number + 1}")
    with pytest.raises(StateError, match="levels"):
        store.set_parent("below", "d0")


def test_damage_and_another_encoder_are_one_domains_own(store: DomainStore, tmp_path: Path) -> None:
    for name in ("hurt", "well", "gone"):
        store.append(name, "adapted", explanation="", state=state(1))
    (store.folder / "hurt" / "domain.json").write_text('{"domain": "hurt"}')
    (store.folder / "gone" / "000001.safetensors").unlink()
    served = store.domain_adapters(store.names())
    assert served["well"].state is not None
    assert served["hurt"].reason.startswith("damaged: ")
    assert "domain.json is not a domain's record" in served["hurt"].reason
    assert served["gone"].reason.startswith("damaged: ")
    other = DomainStore(tmp_path, encoder_sha256="f")
    assert "learned with another encoder" in other.domain_adapter("well").reason


def test_every_change_changes_the_stamp(store: DomainStore) -> None:
    stamps = [store.revision()]
    store.append("team", "adapted", explanation="", state=state(1))
    stamps.append(store.revision())
    store.set_parent("team", "all")
    stamps.append(store.revision())
    assert len(set(stamps)) == 3
