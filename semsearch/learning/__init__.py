"""Learning to adapt: tasks, inner loops, the outer loop over them, and the guard."""
