"""Every metric with its interval, per language, against baselines; and the report that shows them."""
