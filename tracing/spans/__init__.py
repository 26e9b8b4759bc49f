"""One workflow as the spans of one trace: plain values, made of the log alone."""
