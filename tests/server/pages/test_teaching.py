"""The form that teaches without scripts: its actions, what it refuses, and where it leads."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from semsearch.server.security import WriteKeys
from tests.server.conftest import Serve

KEY = "a-key-of-enough-length"
SEARCH = {"query": "an animal that purrs", "domain": "team"}


def teach(client: FlaskClient, **fields: object) -> TestResponse:
    return client.post("/teach", data={**SEARCH, **fields}, headers={"Accept": "text/html"})


def labels(client: FlaskClient) -> list[tuple[str, str, float]]:
    answer = client.get("/api/labels?domain=team").get_json()
    return [(label["query"], label["document"], label["relevance"]) for label in answer["labels"]]


def test_a_mark_is_stored_changed_and_removed(client: FlaskClient) -> None:
    response = teach(client, mark="1:bee", page="2", mode="semantic", index="zoo")
    assert response.status_code == 303
    target = urlsplit(response.location)
    assert target.path == "/"
    expected = {**SEARCH, "page": "2", "mode": "semantic", "index": "zoo", "taught": "marked"}
    assert parse_qs(target.query) == {name: [value] for name, value in expected.items()}
    assert labels(client) == [(SEARCH["query"], "bee", 1.0)]
    assert teach(client, mark="0:bee").location.endswith("taught=marked")
    assert labels(client) == [(SEARCH["query"], "bee", 0.0)]
    assert teach(client, mark="0:bee").location.endswith("taught=removed")
    assert labels(client) == []


def test_only_the_latest_mark_of_a_result_is_removed(client: FlaskClient) -> None:
    for user in ("ann", "bob"):
        label = {**SEARCH, "document": "bee", "user": user}
        assert client.post("/api/labels", json=label).status_code == 201
    assert teach(client, mark="1:bee").location.endswith("taught=removed")
    assert labels(client) == [(SEARCH["query"], "bee", 1.0)]


def test_the_page_shows_marks_and_what_was_done(client: FlaskClient) -> None:
    page = client.get(teach(client, mark="1:bee").location).text
    assert '<p class="message" role="status">Marked.</p>' in page
    assert 'value="1:bee" data-relevance="1" aria-pressed="true"' in page
    assert 'value="0:bee" data-relevance="0" aria-pressed="false"' in page
    assert page.count('aria-pressed="true"') == 1
    forged = client.get("/", query_string={**SEARCH, "taught": "forged"})
    assert forged.status_code == 200
    assert 'class="message" role="status">' not in forged.text.replace('class="message" role="status"></p>', "")


def test_what_a_form_did_is_not_part_of_other_links(client: FlaskClient) -> None:
    page = client.get(teach(client, mark="1:bee").location).text
    assert page.count("taught=") == 0


def test_adapting_without_marks_says_so(client: FlaskClient) -> None:
    assert teach(client, act="adapt").location.endswith("taught=nothing-new")
    assert (
        "There is nothing new to learn from." in client.get("/", query_string={**SEARCH, "taught": "nothing-new"}).text
    )


def test_the_language_of_the_page_is_kept(client: FlaskClient) -> None:
    page = client.get("/", query_string={**SEARCH, "lang": "zh-Hans"}).text
    assert 'action="/teach?lang=zh-Hans"' in page
    answer = client.post("/teach?lang=zh-Hans", data={**SEARCH, "mark": "1:bee"})
    assert "lang=zh-Hans" in answer.location
    refused = client.post("/teach?lang=zh-Hans", data=SEARCH, headers={"Accept": "text/html"})
    assert '<html lang="zh-Hans"' in refused.text


def test_a_damaged_label_log_does_not_keep_anyone_from_searching(client: FlaskClient) -> None:
    teach(client, mark="1:bee")
    registry = client.application.extensions["semsearch"].index("zoo").domains
    registry.log.close()
    path = registry.log.path
    for other in path.parent.glob(f"{path.name}*"):
        other.unlink()
    path.write_bytes(b"damaged" * 1000)
    page = client.get("/", query_string=SEARCH)
    assert page.status_code == 200
    assert 'data-document="bee"' in page.text
    assert 'aria-pressed="true"' not in page.text


def test_adapting_undoing_restoring_and_removing(client: FlaskClient) -> None:
    teach(client, mark="1:bee")
    assert teach(client, act="adapt").location.endswith("taught=adapted")
    assert "Adapted to <strong" in client.get("/", query_string=SEARCH).text
    assert teach(client, act="undo").location.endswith("taught=undone")
    assert "Nothing learned yet for" in client.get("/", query_string=SEARCH).text
    response = client.post("/teach", data={"domain": "team", "restore": "1", "from": "learned"})
    assert response.location == "/learned?domain=team&taught=restored"
    page = client.get(response.location).text
    assert '<p class="message" role="status">The chosen version is in use.' in page
    assert teach(client, act="adapt").location.endswith("taught=adapted")
    assert teach(client, act="adapt").location.endswith("taught=nothing-new")
    label_id = client.get("/api/labels?domain=team").get_json()["labels"][0]["id"]
    client.post("/teach", data={"domain": "team", "retract": label_id, "from": "learned"})
    assert labels(client) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "act: missing"),
        ({"act": "explode"}, "act: missing"),
        ({"mark": "bee"}, "mark: give 0 or 1"),
        ({"mark": "2:bee"}, "mark: give 0 or 1"),
        ({"mark": "1:unicorn"}, "has no document"),
        ({"mark": "1:"}, "document"),
        ({"restore": "x"}, "restore: "),
        ({"restore": "9"}, "version"),
        ({"act": "adapt", "domain": "../x"}, "domain"),
        ({"act": "undo"}, "no version to return from"),
        ({"mark": "1:bee", "query": "x" * 10_001}, "query: "),
        ({"mark": "1:bee", "query": " "}, "query: missing"),
    ],
)
def test_invalid_forms_are_refused_with_a_page(client: FlaskClient, fields: dict[str, str], message: str) -> None:
    response = teach(client, **fields)
    assert response.status_code == 422
    assert response.mimetype == "text/html"
    assert message in response.text
    assert labels(client) == []


def test_an_unknown_index_is_not_found(client: FlaskClient) -> None:
    assert teach(client, mark="1:bee", index="other").status_code == 404


def test_a_key_is_a_field_of_the_form(serve: Serve) -> None:
    client = serve(keys=WriteKeys({"me": KEY}))
    page = client.get("/", query_string=SEARCH).text
    assert 'type="password" name="key"' in page
    assert teach(client, mark="1:bee").status_code == 401
    refused = teach(client, mark="1:bee", key="wrong" * 5)
    assert refused.status_code == 401
    assert "type it in the field below the search box" in refused.text
    response = teach(client, mark="1:bee", key=KEY)
    assert response.status_code == 303
    assert KEY not in response.location
    stored = client.get("/api/labels?domain=team", headers={"Authorization": f"Bearer {KEY}"}).get_json()["labels"]
    assert [label["source"] for label in stored] == ["me"]
    # who marked what is not public there
    assert 'aria-pressed="true"' not in client.get(response.location).text


def test_a_read_only_server_has_no_form_and_refuses_it(serve: Serve) -> None:
    client = serve(keys=WriteKeys({}, refuse_all=True))
    assert "/teach" not in client.get("/", query_string=SEARCH).text
    assert teach(client, mark="1:bee").status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://other.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_the_forms_of_other_sites_are_refused(client: FlaskClient, headers: dict[str, str]) -> None:
    response = client.post("/teach", data={**SEARCH, "mark": "1:bee"}, headers=headers)
    assert response.status_code == 403
    assert labels(client) == []


def test_a_form_over_the_limit_is_refused(client: FlaskClient) -> None:
    limit = client.application.config["MAX_CONTENT_LENGTH"]
    assert teach(client, mark="1:bee", filter="x" * limit).status_code == 413
