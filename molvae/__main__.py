"""Run the command line as ``python -m molvae``.

In: the process's arguments. Out: its exit code.
"""

from __future__ import annotations

import sys

from molvae.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
