"""Messages about wrong requests, as a page shows them in a language other than English."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

import semsearch
from semsearch.server.i18n import Texts

MESSAGES = Path(semsearch.__file__).parent.parent / "web" / "messages"
CHINESE = re.compile("[\u4e00-\u9fff]")
WRONG = [
    ("/?query=honey&filter=kind", 422),
    ("/?query=honey&filter=kind+=", 422),
    ("/?query=honey&filter=kind+=+null", 422),
    ("/?query=honey&filter=colour+=+red", 422),
    ("/?query=honey&filter=kin+=+red", 422),
    (f"/?query=honey&filter={'not+' * 100}kind+=+a", 422),
    (f"/?query=honey&filter=kind+=+{'x' * 5000}", 422),
    ("/?query=honey&sort=-", 422),
    ("/?query=honey&sort=colour", 422),
    (f"/?query=honey&sort={'x' * 300}", 422),
    ("/?query=honey&page=x", 422),
    ("/?query=honey&page=0", 422),
    ("/?query=honey&mode=magic", 422),
    ("/?query=honey&compare=perhaps", 422),
    ("/?query=honey&domain=../x", 422),
    (f"/?query=honey&domain={'x' * 300}", 422),
    ("/?query=honey&index=other", 404),
    ("/document?id=unicorn", 404),
    ("/nowhere", 404),
    ("/?query=%FF", 400),
]


@pytest.mark.parametrize(("address", "status"), WRONG)
def test_messages_are_in_the_language_of_the_page(client: FlaskClient, address: str, status: int) -> None:
    for language in ("zh-Hans", "en"):
        response = client.get(address, headers={"Accept": "text/html", "Accept-Language": language})
        assert response.status_code == status
        [section] = re.findall('<section class="notice error".*?</section>', response.text, re.DOTALL)
        [detail] = re.findall(r"<p([^>]*)>(.*?)</p>", section)[:1]
        assert 'lang="en"' not in detail[0]
        assert bool(CHINESE.search(detail[1])) == (language == "zh-Hans"), detail


def test_notes_about_a_filter_are_in_the_language_of_the_page(client: FlaskClient) -> None:
    page = client.get("/?query=honey&filter=kind+%3E+3&lang=zh-Hans").text
    [note] = re.findall('<p class="note" dir="auto">(.*?)</p>', page)
    assert note.startswith("字段 `kind` 的值是文本，而筛选条件把它与数字比较：文本请加引号")


def test_an_api_answers_in_english(client: FlaskClient) -> None:
    answer = client.get("/api/search?query=honey&filter=kind", headers={"Accept-Language": "zh-Hans"}).get_json()
    assert not CHINESE.search(answer["detail"])


def test_a_message_without_a_translation_is_left_to_the_caller() -> None:
    texts = Texts("zh-Hans", {}, {"a {kind} thing": "一个{kind}东西", "new": "新"})
    assert texts.translated("a new thing") == "一个新东西"
    assert texts.translated("a {0.__class__} thing") == "一个{0.__class__}东西"
    assert texts.translated("something else") is None
    assert Texts("en", {}).translated("something else") == "something else"


@pytest.mark.parametrize("path", sorted(MESSAGES.glob("*.json")), ids=lambda path: path.stem)
def test_translations_have_the_placeholders_of_their_messages(path: Path) -> None:
    names = re.compile(r"\{(\w+)\}")
    for message, translation in json.loads(path.read_text(encoding="utf-8")).items():
        assert set(names.findall(translation)) <= set(names.findall(message)), message
