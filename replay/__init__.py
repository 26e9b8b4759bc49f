"""Running again: past events chosen, handled anew and compared, and dead letters handed back to their agents."""
