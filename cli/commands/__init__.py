"""One module a command; `cli.group` says which, and imports a module when its command is typed."""
