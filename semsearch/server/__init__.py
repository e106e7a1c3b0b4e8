"""The search page and the JSON API, served with Flask."""
