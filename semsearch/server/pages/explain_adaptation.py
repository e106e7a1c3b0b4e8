"""What serves a domain, and why, as a sentence in the reader's language."""

from __future__ import annotations

from semsearch.adapters.adapter import UNKNOWN_DOMAIN, DomainAdapter
from semsearch.adapters.guard import MIN_LABELS, Reason
from semsearch.search.engine import ENCODER_FAILED, UNENCODED
from semsearch.server.i18n import Texts

_FIXED = ((UNKNOWN_DOMAIN, "unknown"), (UNENCODED, "words-only"), (ENCODER_FAILED, "encoder-failed"))


def sentence(t: Texts, serving: DomainAdapter, domain: str) -> str:
    """Why the domain is served as it is; what there is no text for is told as it was logged."""
    for fixed, key in _FIXED:
        if serving is fixed:
            return t(f"verdict.{key}")
    if serving.domain not in {None, domain}:
        return t("verdict.inherited", domain=serving.domain)
    return of(t, serving.verdict) or serving.reason


def of(t: Texts, verdict: object) -> str:
    """What the guard found; nothing where it was not asked."""
    if not isinstance(verdict, dict) or not verdict:
        return ""
    reason, labels = verdict["reason"], int(verdict["labels"])
    if reason == Reason.TOO_FEW:
        return t("verdict.too-few", count=labels, fewest=MIN_LABELS)
    if reason == Reason.ONE_DOCUMENT:
        return t("verdict.one-document")
    low, high = (f"{bound:+.3f}" if isinstance(bound, float) else "…" for bound in verdict["interval"])
    key = "verdict.adapted" if reason == Reason.ADAPTED else "verdict.no-gain"
    return t(key, count=labels, estimate=f"{verdict['estimate']:+.3f}", low=low, high=high)
