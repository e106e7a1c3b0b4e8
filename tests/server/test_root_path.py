"""A server at a path behind a proxy: every address on its pages and in its scripts begins with that path."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from flask.testing import FlaskClient

from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from semsearch.server.app import create_app
from semsearch.server.root_path import (
    RootPathError,
    TrustedProxyError,
    parse_root_path,
    parse_trusted_proxy,
    without_root,
)
from semsearch.server.runtime.service import AdaptationSettings

ROOT = "/team/search"
PAGES = [
    "/",
    "/?query=animal&filter=kind+%3D+mammal&lang=zh-Hans",
    "/?query=animal&compare=true",
    "/document?id=bee&query=honey",
    "/explanation?id=bee&query=honey",
    "/learned",
    "/map?query=honey",
    "/status",
    "/nothing",
    "/document?id=none",
]


class _Addresses(HTMLParser):
    """The addresses on a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {
            value for name, value in attrs if name in {"href", "src", "action", "data-texts", "data-copy"} and value
        }


def addresses_of(page: str) -> set[str]:
    parser = _Addresses()
    parser.feed(page)
    return {address for address in parser.found if not address.startswith(("#", "“"))}


@pytest.fixture
def engine(index: Path, tiny_encoder: Encoder) -> Iterator[SearchEngine]:
    engine = SearchEngine.open(index, encoder=tiny_encoder)
    yield engine
    engine.close()


@pytest.fixture(params=["configured", "forwarded"])
def client(request: pytest.FixtureRequest, engine: SearchEngine) -> Iterator[FlaskClient]:
    is_configured = request.param == "configured"
    app = create_app(
        {"zoo": engine},
        adaptation=AdaptationSettings(after=0),
        root_path=f"{ROOT}/" if is_configured else "",
        trusted_proxy=None if is_configured else "127.0.0.1",
    )
    client = app.test_client()
    if not is_configured:
        client.environ_base["HTTP_X_FORWARDED_PREFIX"] = ROOT
    yield client
    app.extensions["semsearch"].close()


@pytest.mark.parametrize("is_removed", [True, False], ids=["removed", "passed on"])
def test_every_address_on_every_page_works(client: FlaskClient, is_removed: bool) -> None:
    def get(address: str) -> Any:
        parts = urlsplit(address)
        assert parts.path == ROOT or parts.path.startswith(f"{ROOT}/"), address
        path = parts.path.removeprefix(ROOT) if is_removed else parts.path
        return client.get(path or "/", query_string=parts.query, headers={"Accept": "text/html"})

    label = {"query": "honey", "document": "bee"}
    assert client.post(f"{'' if is_removed else ROOT}/api/labels", json=label).status_code == 201
    seen: set[str] = set()
    for page in PAGES:
        response = get(ROOT + page)
        assert f'data-root="{ROOT}"' in response.text
        for address in addresses_of(response.text):
            url = urljoin(f"http://localhost{ROOT}{page}", unescape(address))
            assert urlsplit(url).netloc == "localhost"
            seen.add(url)
    for url in seen:
        with get(url) as response:
            # a form is only posted
            expected = (
                404 if "id=none" in url or "/nothing" in url else 405 if urlsplit(url).path.endswith("/teach") else 200
            )
            assert response.status_code == expected, url
    assert len(seen) > 20
    assert get(ROOT).status_code == 200
    assert client.get("/healthz").text == "ok\n"
    openapi = client.get("/api/openapi.json").get_json()
    assert openapi["servers"] == [{"url": ROOT}]


def test_scripts_name_no_address_without_the_root() -> None:
    folder = Path(__file__).parents[2] / "web" / "static"
    for script in folder.glob("*.js"):
        lines = [line for line in script.read_text("utf-8").splitlines() if not line.lstrip().startswith(("//", "/*"))]
        text = "\n".join(lines)
        for start in re.findall(r"(.{0,40})[`\"']/(?:api|document|learned|map|explanation|status)\b", text):
            # `call` adds the root, and the panel adds it to each page of its list
            assert re.search(r"call\(\"[A-Z]+\", $|return $|\[$|\", $", start), (script.name, start)
        assert not re.search(r"fetch\([`\"']/", text), script.name
        assert not re.search(r"(from|import\() ?[\"']/", text), script.name


def test_a_prefix_of_any_other_client_is_ignored(engine: SearchEngine) -> None:
    forged = [(None, "/evil"), ("192.0.2.1", "/evil"), ("127.0.0.1", "http://evil.example"), ("*", "javascript:evil")]
    for trusted, prefix in forged:
        app = create_app({"zoo": engine}, adaptation=AdaptationSettings(after=0), trusted_proxy=trusted)
        page = app.test_client().get("/", headers={"X-Forwarded-Prefix": prefix}).text
        app.extensions["semsearch"].close()
        assert 'data-root=""' in page
        assert "evil" not in page


INVALID = ["/a b", "/a//b", "/a?b", "/é", "/../a", "/a/..", "/./a", "/api", "/static/x", "/<script>", "http://a"]


@pytest.mark.parametrize(("text", "path"), [("", ""), ("/", ""), ("search", "/search"), ("/a/b-c.d/", "/a/b-c.d")])
def test_a_root_path_is_written_in_one_way(text: str, path: str) -> None:
    assert parse_root_path(text) == path


@pytest.mark.parametrize("text", INVALID)
def test_an_invalid_root_path_is_refused(text: str) -> None:
    with pytest.raises(RootPathError, match="root path"):
        parse_root_path(text)


@pytest.mark.parametrize(
    ("path", "rest"),
    [("/a", "/"), ("/a/", "/"), ("/a/api", "/api"), ("/api", "/api"), ("/ab", "/ab"), ("/", "/"), ("", "")],
)
def test_the_root_is_removed_if_a_proxy_has_not_done_so(path: str, rest: str) -> None:
    assert without_root(path, "/a") == rest
    assert without_root(path, "") == path


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (None, None),
        ("*", "*"),
        (" 127.0.0.1 ", "127.0.0.1"),
        ("::1", "::1"),
        ("[0:0::1]", "::1"),
        ("2001:DB8::A", "2001:db8::a"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_a_trusted_proxy_has_the_form_of_the_addresses_of_connections(text: str | None, address: str | None) -> None:
    assert parse_trusted_proxy(text) == address


@pytest.mark.parametrize(
    "text", ["", "localhost", "proxy.example", "10.0.0.0/8", "127.0.0.1:80", "http://127.0.0.1", "127.1", "1,2", "**"]
)
def test_a_trusted_proxy_that_no_connection_can_come_from_is_refused(engine: SearchEngine, text: str) -> None:
    message = rf"the trusted proxy {re.escape(repr(text))} is not an IP address: give the one .*--trusted-proxy"
    with pytest.raises(TrustedProxyError, match=message):
        create_app({"zoo": engine}, trusted_proxy=text)
