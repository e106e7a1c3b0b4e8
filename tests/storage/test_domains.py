"""Domains on disk: versions, parents, damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semsearch.adapters.state import DomainState
from semsearch.errors import StateError
from semsearch.storage.domains import MAX_STATES, DomainStore


def state(gain: float) -> DomainState:
    identity = DomainState.identity(4)
    return DomainState(
        identity.spectral_gains * np.float32(gain), shrinkage=identity.shrinkage, keys=identity.keys,
        values=identity.values, shift=identity.shift, sharpness=identity.sharpness,
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> DomainStore:
    return DomainStore(tmp_path, encoder_sha256="e", dimension=4)


def test_the_last_version_is_served_and_earlier_ones_can_be_read(store: DomainStore, tmp_path: Path) -> None:
    store.append("team", "adapted", explanation="one", state=state(1), learner="listwise", labels=8, last_entry=9)
    store.append("team", "adapted", explanation="two", state=state(2), learner="listwise", verdict={"estimate": 0.1})
    reopened = DomainStore(tmp_path, encoder_sha256="e", dimension=4)
    adapter = reopened.domain_adapter("team")
    assert adapter.state is not None
    assert (adapter.domain, adapter.version, adapter.learner, adapter.reason) == ("team", 2, "listwise", "two")
    assert adapter.state.spectral_gains.tolist() == [2.0] * 4
    first = reopened.record("team").versions[0]
    first_state = reopened.state("team", first)
    assert first_state is not None
    assert (first.last_entry, first_state.spectral_gains.tolist()) == (9, [1.0] * 4)
    store.append("team", "declined", explanation="no", state=None)
    assert (store.domain_adapter("team").state, store.domain_adapter("team").reason) == (None, "no")


def test_unusual_names_are_kept_and_invalid_ones_are_refused(store: DomainStore) -> None:
    names = ["..a", "a/b", "ünï", "x.y", "CON", "a b", "%2F"]
    for name in names[1:]:
        store.append(name, "adapted", explanation="", state=state(1))
    assert store.names() == sorted(names[1:])
    for name in ("", "..a", "lock", "changed", "x" * 201, "ü" * 60, "a/../b", "/a", "\0", "\ud800"):
        with pytest.raises(StateError, match="cannot be a domain's name"):
            store.append(name, "adapted", explanation="", state=state(1))


def test_names_that_differ_in_case_are_two_domains_and_never_share_a_folder(store: DomainStore) -> None:
    store.append("Team", "adapted", explanation="", state=state(1))
    store.append("team", "adapted", explanation="", state=state(2))
    assert store.names() == ["Team", "team"]
    # as on a file system that does not tell upper from lower case
    (store.folder / "TEAM").symlink_to(store.folder / "team")
    with pytest.raises(StateError, match=r"belongs to the domain 'team': .* choose another name than 'TEAM'"):
        store.append("TEAM", "adapted", explanation="", state=state(3))


def test_setting_no_parent_creates_no_record(store: DomainStore, tmp_path: Path) -> None:
    store.set_parent("ann", None)
    assert list(tmp_path.iterdir()) == []


def test_old_states_are_removed_and_their_versions_name_no_file(store: DomainStore) -> None:
    for number in range(MAX_STATES + 3):
        store.append("team", "adapted", explanation=str(number), state=state(number + 1))
    versions = store.record("team").versions
    assert len(versions) == MAX_STATES + 3
    assert [version.state is not None for version in versions] == [False] * 3 + [True] * MAX_STATES
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
    adapters = store.domain_adapters(store.names())
    assert adapters["ann"].domain == "team"
    assert adapters["ann"].state is adapters["team"].state
    for descendant in ("ann", "team", "all"):
        with pytest.raises(StateError, match="its own ancestor"):
            store.set_parent("all", descendant)
    store.set_parent("ann", None)
    assert store.domain_adapter("ann").state is None


def test_the_number_of_ancestors_is_limited(store: DomainStore) -> None:
    for number in range(7):
        store.set_parent(f"d{number}", f"d{number + 1}")
    with pytest.raises(StateError, match="has 7 ancestors already: a domain can have at most 7"):
        store.set_parent("below", "d0")


def test_a_damaged_domain_does_not_affect_others_and_another_encoder_is_refused(
    store: DomainStore, tmp_path: Path
) -> None:
    for name in ("damaged", "sound", "missing"):
        store.append(name, "adapted", explanation="", state=state(1))
    (store.folder / "damaged" / "domain.json").write_text('{"domain": "damaged"}')
    (store.folder / "missing" / "000001.safetensors").unlink()
    adapters = store.domain_adapters(store.names())
    assert adapters["sound"].state is not None
    assert adapters["damaged"].reason.startswith("damaged: ")
    assert "domain.json is not a domain's record" in adapters["damaged"].damage
    assert adapters["missing"].reason.startswith("damaged: ")
    other = DomainStore(tmp_path, encoder_sha256="f", dimension=4)
    assert "learned with another encoder" in other.domain_adapter("sound").damage
    cut = DomainStore(tmp_path, encoder_sha256="e", dimension=3)
    assert "is for vectors of 4 dimensions, the index has 3" in cut.domain_adapter("sound").damage
    assert not any(str(store.folder) in adapter.reason for adapter in adapters.values())


def test_every_change_changes_the_revision(store: DomainStore) -> None:
    revisions = [store.revision()]
    store.append("team", "adapted", explanation="", state=state(1))
    revisions.append(store.revision())
    store.set_parent("team", "all")
    revisions.append(store.revision())
    assert len(set(revisions)) == 3
