"""A model that judges digests beside their documents and gold, and is itself judged on pairs with a known answer."""
