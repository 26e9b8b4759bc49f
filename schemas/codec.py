"""Events to the bytes of a record and back."""

from __future__ import annotations
