"""The trace that an application is in, where it uses OpenTelemetry: what an event published there is told to belong to."""

from __future__ import annotations

import sys
from typing import Any


def current_traceparent() -> str | None:
    """Return the W3C `traceparent` of the span that is current; None outside of one, or where nobody uses OpenTelemetry.

    It asks for nothing to be installed, and imports nothing: an application that
    has a span has imported what makes it.
    """
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
