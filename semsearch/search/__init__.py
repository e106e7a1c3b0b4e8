"""Search: vector and keyword retrieval, fusion, ranking, and the comparison of rankings."""
