"""The page of results: Markdown whose every number comes from a JSON file."""
