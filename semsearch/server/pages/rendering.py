"""Pages as HTML in the reader's language. Does not depend on what is on them."""

from __future__ import annotations

from typing import Self
from urllib.parse import quote, urlencode, urlsplit

from flask import Flask, Response, render_template, request
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from semsearch.server.errors import FieldProblem
from semsearch.server.i18n import Languages, texts
from semsearch.types import DEFAULT_DOMAIN

LONGEST_TITLE = 200
"""Characters of a title where it is one of several."""


class TargetParameters(BaseModel):
    """What every page's address may say; anything else in it is ignored, as links pick up additions on their way."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    index: str | None = None
    domain: str = Field(DEFAULT_DOMAIN, max_length=200)

    @classmethod
    def of_request(cls) -> Self:
        """What the present request's address says. Raises FieldProblem."""
        values = request.args.to_dict()
        if not values.get("domain", "").strip():
            values.pop("domain", None)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise FieldProblem.of(error) from None


def html(template: str, status: int = 200, /, **values: object) -> Response:
    """A page."""
    return Response(render_template(template, **values), status=status, mimetype="text/html")


def register(app: Flask, languages: Languages) -> None:
    """Have the app's templates speak these languages."""
    app.extensions["semsearch.languages"] = languages
    app.add_template_filter(shortened)
    app.context_processor(
        lambda: {
            "t": texts(),
            "languages": languages.all,
            "lang": lang if (lang := request.args.get("lang")) in languages.all else None,
            "here": _here,
            "default_domain": DEFAULT_DOMAIN,
        }
    )


def shortened(title: str) -> str:
    """A title as it is shown beside others."""
    return title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 1]}…"


def web_address(metadata: dict[str, JsonValue] | object) -> str | None:
    """A document's own address where its metadata gives one that a browser may be sent to."""
    url = metadata.get("url") if isinstance(metadata, dict) else None
    try:
        return url if isinstance(url, str) and urlsplit(url).scheme in {"http", "https"} else None
    except ValueError:
        return None


def _here(**changes: str) -> str:
    """The present address with other values."""
    values = {**request.args.to_dict(), **changes}
    # an address that begins with two slashes names another host
    return f"/{quote(request.path.lstrip('/'))}?{urlencode(values)}"
