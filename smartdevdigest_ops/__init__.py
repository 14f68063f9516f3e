"""How every SmartDevDigest artifact is made: plain Python, free of any orchestrator."""
