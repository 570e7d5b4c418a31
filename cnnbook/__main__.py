"""Run the command line: ``python -m cnnbook``."""

import sys

from cnnbook.cli import main

if __name__ == "__main__":
    sys.exit(main())
