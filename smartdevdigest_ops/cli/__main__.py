"""`python -m smartdevdigest_ops.cli`."""

import sys

from smartdevdigest_ops.cli.command_line import main

sys.exit(main())
