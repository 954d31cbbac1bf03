"""Files, batches, moderations and classifications in the protocol of OpenAI's clients.

`protocol` has its errors, `lines` reads input files, `answers` makes answers of results, `outputs`
writes output files: all without I/O but of files. `work` does what a batch needs, in the
background; `files`, `batches` and `calls` have the routes.
"""
