"""Undoing what a failed workflow did."""
