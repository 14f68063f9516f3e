"""The report for a reader: page, plots, verdict, and what the asset shows of it."""
