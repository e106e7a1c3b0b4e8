"""Adaptation of query vectors to domains: states, learners, guard, weights."""
