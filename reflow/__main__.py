"""``python -m reflow``."""

import sys

from reflow.cli.main import main

sys.exit(main())
