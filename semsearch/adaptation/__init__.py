"""Labels and clicks of a running index become what its domains are served with."""
