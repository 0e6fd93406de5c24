"""Durable jobs: what a job is, the board that the API writes on, and the workers that take from it.

`board.JobBoard` is all that the API needs; it loads no model and no ML library. `engine` is the one module
that runs DBOS workflows, in a worker's process.
"""
