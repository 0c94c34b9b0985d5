"""`python -m movieclassifier`."""

import sys

from movieclassifier.cli import main

sys.exit(main())
