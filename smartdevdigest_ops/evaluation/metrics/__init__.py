"""What is measured of answers."""
