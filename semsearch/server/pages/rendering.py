"""Rendering of pages in the interface's language. Does not depend on any page's content."""

from __future__ import annotations

import json
from typing import Self
from urllib.parse import quote, urlencode, urlsplit

from flask import Flask, Response, render_template, request
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from semsearch.server.errors import FieldProblem
from semsearch.server.i18n import Languages, texts
from semsearch.server.schemas.search import DomainName
from semsearch.types import DEFAULT_DOMAIN

MAX_TITLE_CHARS = 200
"""Length of a title in a list."""


class TargetParameters(BaseModel):
    """Query parameters of every page. Unknown ones are ignored: links pick up tracking parameters on their way."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    index: str | None = None
    domain: DomainName = DEFAULT_DOMAIN

    @classmethod
    def of_request(cls) -> Self:
        """Parse the current request's query string. Raises FieldProblem if it is invalid."""
        values = request.args.to_dict()
        if not values.get("domain", "").strip():
            values.pop("domain", None)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise FieldProblem.of(error, cls, values) from None


def html(template: str, status: int = 200, /, **values: object) -> Response:
    """Render a template as a response."""
    return Response(render_template(template, **values), status=status, mimetype="text/html")


def register(app: Flask, languages: Languages) -> None:
    """Give the templates of `app` their filters and their variables, among them `t`, the texts of the interface."""
    app.extensions["semsearch.languages"] = languages
    app.add_template_filter(shortened)
    app.add_template_filter(as_json)
    app.context_processor(
        lambda: {
            "t": texts(),
            "languages": languages.all,
            "lang": lang if (lang := request.args.get("lang")) in languages.all else None,
            "current_address": _current_address,
            "default_domain": DEFAULT_DOMAIN,
        }
    )


def shortened(title: str) -> str:
    """Shorten a title for a list to MAX_TITLE_CHARS characters."""
    return title if len(title) <= MAX_TITLE_CHARS else f"{title[: MAX_TITLE_CHARS - 1]}…"


def as_json(value: JsonValue) -> str:
    """Return a value as JSON for readers, with all characters as they are; the template escapes it."""
    return json.dumps(value, ensure_ascii=False)


def web_address(metadata: dict[str, JsonValue] | object) -> str | None:
    """Address of the document on the web: the metadata's `url` if its scheme is http or https, otherwise None."""
    url = metadata.get("url") if isinstance(metadata, dict) else None
    try:
        return url if isinstance(url, str) and urlsplit(url).scheme in {"http", "https"} else None
    except ValueError:
        return None


def _current_address(**changes: str) -> str:
    """Path and query string of the current request, with some parameters changed."""
    values = {name: value for name, value in request.args.items() if name not in {"taught", "typing"}} | changes
    # an address that begins with two slashes names another host
    return f"{request.script_root}/{quote(request.path.lstrip('/'))}?{urlencode(values)}"
