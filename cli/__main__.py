"""`python -m antiphon.cli`: the same as the `antiphon` script."""

from __future__ import annotations

from antiphon.cli.main import main

if __name__ == "__main__":
    main()
