"""A process beside the worker, for packs that may have ended one: it can be lost.

A pack that comes back from the broker may be why it did. Its body is decoded in the child, and run
there, all items together; if that ends the child, or takes too long, item by item. What the child
was at when it ended, an item or the decoding, is done once more: the first time it may have been
the kernel, for which the child is the first to go when memory is short, or an operator. So what
ends processes costs its own items an error, and their neighbours nothing.

The child is given the whole body each time and notes what it is at, in memory that both see: a
message for each item would wait each time until the worker's other runs let go of Python's lock.
"""
