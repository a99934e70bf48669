"""Whether the code got worse: what was kept in git, the same measured now, a verdict a line."""
