"""What `antiphon replay` is made of: what was recorded, which code, how it goes on, what is shown."""
