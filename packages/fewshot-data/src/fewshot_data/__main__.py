"""`python -m fewshot_data` is the command `fewshot-data`."""

import sys

from fewshot_data.command import main

if __name__ == "__main__":
    sys.exit(main())
