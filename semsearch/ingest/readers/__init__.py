"""Files of every supported format to documents."""
