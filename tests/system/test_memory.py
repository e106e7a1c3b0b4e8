"""The memory that a process may use: the machine's, or the lowest limit of its control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from semsearch.system.memory import machine_memory

GROUPS = "sys/fs/cgroup"
UNLIMITED = "9223372036854771712"


@pytest.mark.parametrize(
    ("process_groups", "limits", "expected"),
    [
        pytest.param(None, {}, None, id="no Linux"),
        pytest.param("0::/", {}, None, id="no limit"),
        pytest.param("0::/", {"memory.max": "max"}, None, id="v2, a group without a limit"),
        pytest.param("0::/", {"memory.max": "1000"}, 1000, id="v2, a container"),
        pytest.param(None, {"memory.max": "1000"}, 1000, id="v2, without proc"),
        pytest.param("0::/system.slice/a.service", {"system.slice/a.service/memory.max": "1000"}, 1000, id="v2, own"),
        pytest.param(
            "0::/user.slice/u-1.slice/run-3.scope",
            {"user.slice/u-1.slice/run-3.scope/memory.max": "max", "user.slice/memory.max": "1000"},
            1000,
            id="v2, a parent's",
        ),
        pytest.param("0::/a/b", {"a/b/memory.max": "3000", "a/memory.max": "2000"}, 2000, id="v2, the lowest"),
        pytest.param("0::/a/b", {"a/b/memory.max": "2000", "a/memory.max": "3000"}, 2000, id="v2, the lowest, own"),
        pytest.param("0::/a", {"other/memory.max": "1000", "a/b/memory.max": "1000"}, None, id="other groups"),
        pytest.param("0::/docker/4f", {"memory.max": "1000"}, 1000, id="v2, named as on the host"),
        pytest.param("0::/../../b", {"memory.max": "1000"}, 1000, id="v2, outside of the namespace"),
        pytest.param("0::/a:b c", {"a:b c/memory.max": "1000"}, 1000, id="v2, a colon and a space"),
        pytest.param("4:memory:/\n0::/a", {"unified/a/memory.max": "1000"}, 1000, id="v2 beside v1"),
        pytest.param("9:cpu:/a\n4:memory:/a", {"memory/a/memory.limit_in_bytes": "1000"}, 1000, id="v1, own"),
        pytest.param("4:cpu,memory:/a/b", {"memory/a/memory.limit_in_bytes": "1000"}, 1000, id="v1, a parent's"),
        pytest.param("4:memory:/docker/4f", {"memory/memory.limit_in_bytes": "1000"}, 1000, id="v1, a container"),
        pytest.param("4:memory:/a", {"memory/a/memory.limit_in_bytes": UNLIMITED}, None, id="v1, no limit"),
        pytest.param("9:cpu:/a", {"memory/a/memory.limit_in_bytes": "1000"}, None, id="v1, another controller's"),
        pytest.param("nonsense\n\n:\n4:memory", {"memory.max": "nonsense"}, None, id="what nobody writes"),
    ],
)
def test_the_memory_of_a_process_is_the_lowest_limit_of_its_groups(
    tmp_path: Path, process_groups: str | None, limits: dict[str, str], expected: int | None
) -> None:
    if process_groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(process_groups + "\n")
    whole = machine_memory(tmp_path)
    assert whole > 2**20
    for name, limit in limits.items():
        path = tmp_path / GROUPS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(limit + "\n")
    assert machine_memory(tmp_path) == (expected or whole)


def test_the_memory_of_this_process_is_known() -> None:
    assert machine_memory() > 2**20
