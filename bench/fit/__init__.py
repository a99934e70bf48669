"""`offsite-bench fit`: the largest batch that trains within a memory budget.

`search` looks for it, `probes` tries a batch as an ordinary stage of an ordinary plan, `table`
shows what was found.
"""
