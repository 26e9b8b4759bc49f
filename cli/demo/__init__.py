"""What `antiphon demo` is made of: its input, its processes, what it has seen so far, and its screen."""
