"""The crawl: drops of records, each checked against the contract on its own."""
