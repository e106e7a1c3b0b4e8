"""How a query vector is moved for its domain: states, learners, guard, weights."""
