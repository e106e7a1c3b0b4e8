"""Explains a domain's adaptation in one sentence of the interface's language."""

from __future__ import annotations

from semsearch.adapters.adapter import UNKNOWN_DOMAIN, DomainAdapter
from semsearch.adapters.verdict import MIN_LABELS, Reason
from semsearch.search.engine import ENCODER_FAILED, UNENCODED
from semsearch.server.i18n import Texts

_FIXED = ((UNKNOWN_DOMAIN, "unknown"), (UNENCODED, "keyword-only"), (ENCODER_FAILED, "encoder-failed"))


def explain_adaptation(t: Texts, adapter: DomainAdapter, domain: str) -> str:
    """Explain why `domain` is adapted with `adapter`; the logged reason, in English, if there is no text for it."""
    for fixed, key in _FIXED:
        if adapter is fixed:
            return t(f"verdict.{key}")
    if adapter.domain not in {None, domain}:
        return t("verdict.inherited", domain=adapter.domain)
    return explain_verdict(t, adapter.verdict) or adapter.reason


def explain_verdict(t: Texts, verdict: object) -> str:
    """Explain the guard's verdict; an empty string if there is none."""
    if not isinstance(verdict, dict) or not verdict:
        return ""
    reason, labels = verdict["reason"], int(verdict["labels"])
    if reason == Reason.TOO_FEW:
        return t("verdict.too-few", count=labels, minimum=MIN_LABELS)
    if reason == Reason.ONE_DOCUMENT:
        return t("verdict.one-document")
    low, high = (f"{bound:+.3f}" if isinstance(bound, float) else "…" for bound in verdict["interval"])
    key = "verdict.adapted" if reason == Reason.ADAPTED else "verdict.no-improvement"
    return t(key, count=labels, estimate=f"{verdict['estimate']:+.3f}", low=low, high=high)
