"""Routes that render HTML pages."""
