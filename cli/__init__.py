"""The command line: what people type and what they read. One file a command, under `commands/`."""
