"""The status page: its content, its refresh, and that it contains no query."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from tests.browser.conftest import serving
from tests.conftest import ANIMALS, build_index, write_jsonl

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, real_encoder: Encoder) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("status")
    build_index(folder / "a", write_jsonl(folder / "a.jsonl", ANIMALS), model="all-MiniLM-L6-v2", title="Animals")
    with serving({"a": SearchEngine.open(folder / "a", encoder=real_encoder)}) as url:
        yield url


def test_sizes_domains_and_latencies_are_shown_and_refreshed(page: Page) -> None:
    assert page.request.get("/api/search?query=a+secret+matter").ok
    assert page.request.post("/api/labels", data={"query": "honey", "document": "bee", "domain": "team"}).ok
    page.clock.install()
    page.goto("/status")
    expect(page.get_by_text("Searches are answered.")).to_be_visible()
    expect(page.locator("[data-needs-script]")).to_be_visible()  # the script runs: its clock can be advanced
    row = page.get_by_role("row", name="Animals")
    assert row.get_by_role("cell").all_inner_texts()[:5] == ["6", "6", "0", "1", "exact, float32"]
    expect(page.get_by_role("row", name="team")).to_contain_text("1")
    encoding = page.get_by_role("row", name="encoding")
    before = int(encoding.get_by_role("cell").first.inner_text())
    assert before >= 1
    assert "secret" not in page.content()
    assert page.request.get("/api/search?query=something+else").ok
    page.clock.run_for(5_100)
    expect(encoding.get_by_role("cell").first).to_have_text(str(before + 1))
    page.get_by_role("link", name="Animals").click()
    expect(page).to_have_title("Animals")
