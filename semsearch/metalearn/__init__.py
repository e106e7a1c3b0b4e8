"""Meta-training of the weights: labelled data sets, episodes, outer loop, the guard's prior."""
