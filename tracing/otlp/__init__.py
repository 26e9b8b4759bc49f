"""Exporting what the log says by OpenTelemetry's protocol; only a tracer does, and only where it is asked to."""
