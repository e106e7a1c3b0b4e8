"""Meta-training: labelled data sets, episodes, the outer loop."""
