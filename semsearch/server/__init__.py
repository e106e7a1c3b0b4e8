"""The search page and the JSON endpoint, through Flask."""
