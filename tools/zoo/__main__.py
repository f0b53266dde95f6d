"""`python tools/zoo`: see :mod:`runner`."""

import sys

from runner import main

raise SystemExit(main(sys.argv[1:]))
