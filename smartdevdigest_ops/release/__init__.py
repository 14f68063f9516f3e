"""The release: which model is served, how one comes to be, and how somebody decides otherwise."""

from smartdevdigest_ops.release.pointer import (
    RELEASE_FILE,
    ReleaseError,
    read_release,
    release_before,
    release_chain,
    released_model,
)

__all__ = ["RELEASE_FILE", "ReleaseError", "read_release", "release_before", "release_chain", "released_model"]
