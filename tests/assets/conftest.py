"""The code location is loaded once per process, with the profile of the environment: here, always `ci`."""

import os

os.environ["SMARTDEVDIGEST_PROFILE"] = "ci"
