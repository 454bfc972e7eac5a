"""`python -m levelset` is `levelset`."""

import sys

from levelset.cli import main

sys.exit(main())
