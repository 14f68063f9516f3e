"""Housekeeping: what a store no longer needs, and whether what it holds is whole."""
