"""`python -m smartdevdigest_ops.stage NAME SPEC.json`."""

import sys

from smartdevdigest_ops.stage.process import main

sys.exit(main())
