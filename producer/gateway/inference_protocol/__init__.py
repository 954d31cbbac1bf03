"""The Open Inference Protocol, version 2, over HTTP: what Triton's, KServe's and MLServer's clients
speak.

`tensors` and `codec` read and write bodies, `mapping` makes items of inputs and outputs of results,
`descriptions` says what there is, `statistics` counts, and `handlers` has the routes. Only the last
does any I/O.
"""
