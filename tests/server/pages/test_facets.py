"""The facets of the search page: every link leads to documents, whatever the values are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from flask.testing import FlaskClient

from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from semsearch.server.app import create_app
from semsearch.server.pages.search import MAX_FACET_VALUES
from tests.conftest import build_index, write_jsonl

VALUES: list[Any] = [
    "plain", "two words", 'say "so" \\ \'x\'', "1.10", "1.1", 1.1, 1, "1", True, "true", -5, 1e-08, 10**25, "a, b",
    "<b>", "2024-03-01", "2024-03-01T10:00:00+02:00", "and", "x" * 300, ["a", "b"], "caf\u00e9", "cafe\u0301",
    "10000 EUR", 2024, *(f"more.{number}" for number in range(8)),
]  # fmt: skip
FIELDS = ("value", "odd name", "nested.inner")
LINK = re.compile(r'<a class="facet-value"[^>]*href="([^"]*)"><bdi>(.*?)</bdi> <small>(\d+)</small>')


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_encoder: Encoder) -> Iterator[FlaskClient]:
    folder = tmp_path_factory.mktemp("facets")
    documents = [
        {
            "id": f"d{number}",
            "text": f"water and honey number {number}",
            "value": value,
            "odd name": value,
            "nested": {"inner": value},
            "n": number,
        }
        for number, value in enumerate(VALUES)
    ]
    build_index(folder / "zoo", write_jsonl(folder / "in.jsonl", documents), model=tiny_model, facets=FIELDS)
    engine = SearchEngine.open(folder / "zoo", encoder=tiny_encoder)
    app = create_app({"zoo": engine})
    yield app.test_client()
    app.extensions["semsearch"].close()
    engine.close()


def links(page: str) -> list[tuple[str, str, int]]:
    """(address, text, count) of every facet link."""
    page = page.replace("<wbr>", "")
    return [(unescape(address), unescape(text), int(count)) for address, text, count in LINK.findall(page)]


@pytest.mark.parametrize("mode", ["hybrid", "semantic", "keyword"])
def test_every_facet_link_leads_to_as_many_documents_as_it_says(client: FlaskClient, mode: str) -> None:
    start = client.get(f"/?query=honey+number&mode={mode}")
    followed = links(start.text)
    assert len(followed) == len(FIELDS) * MAX_FACET_VALUES
    for address, text, count in followed:
        chosen = dict(parse_qsl(urlsplit(address).query))["filter"]
        answer = client.post(
            "/api/search", json={"query": "honey number", "mode": mode, "filter": chosen, "k": 100}
        ).get_json()
        assert len(answer["results"][0]["hits"]) == count, (text, chosen)
        page = client.get(address).text
        assert len(re.findall(r'aria-current="true"', page)) == 1, (text, chosen)
        # of the chosen field, the other values remain, to be chosen too
        assert len(links(page)) >= MAX_FACET_VALUES
        assert 'href="' + address.replace("&", "&amp;") + '"' not in page


def filters_of(page: str) -> dict[str, str | None]:
    """Text of each facet link → the filter that it leads to."""
    return {text: dict(parse_qsl(urlsplit(address).query)).get("filter") for address, text, _ in links(page)}


def test_several_values_can_be_chosen_and_removed_one_by_one(client: FlaskClient) -> None:
    one = filters_of(client.get("/?query=honey&filter=value+%3D+%22plain%22+and+n+%3E+3").text)
    assert one["plain"] == "n > 3"
    assert one["-5"] == 'n > 3 and value in ("plain", -5)'
    two = filters_of(client.get("/", query_string={"query": "honey", "filter": one["-5"]}).text)
    assert two["plain"] == "n > 3 and value = -5"
    assert two["-5"] == 'n > 3 and value = "plain"'


def test_each_condition_of_the_filter_can_be_removed(client: FlaskClient) -> None:
    filter_text = 'value in ("plain", -5) and n > 3 and not n = 7'
    page = client.get("/", query_string={"query": "honey", "filter": filter_text}).text
    chips = re.findall(r'<a class="chip"[^>]*href="([^"]*)"[^>]*><bdi>(.*?)</bdi>', page)
    left = {unescape(text): dict(parse_qsl(urlsplit(unescape(address)).query)).get("filter") for address, text in chips}
    assert left == {
        "value: plain": "n > 3 and not n = 7 and value = -5",
        "value: -5": 'n > 3 and not n = 7 and value = "plain"',
        "n > 3": 'value in ("plain", -5) and not n = 7',
        "not n = 7": 'value in ("plain", -5) and n > 3',
    }


def test_a_condition_that_cannot_match_is_explained_on_the_page(client: FlaskClient) -> None:
    assert "The field `n` holds numbers" in client.get("/?query=honey&filter=n+%3D+%22x%22").text
    refused = client.get("/?query=honey&filter=valu+%3D+1")
    assert refused.status_code == 422
    assert "use &#39;value&#39;?" in refused.text
