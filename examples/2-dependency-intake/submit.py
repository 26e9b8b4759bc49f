"""Write the data of a `package.submitted` event for an installed distribution: `python submit.py NAME`."""

import json
import sys
from importlib.metadata import distribution
from pathlib import Path

if __name__ == "__main__":
    found = distribution(sys.argv[1])
    [metadata] = [file for file in found.files or [] if file.name == "METADATA"]
    path = str(Path(metadata.locate()).parent)
    print(json.dumps({"name": found.name, "version": found.version, "path": path}))  # noqa: T201 - its work
