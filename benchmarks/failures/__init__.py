"""What is left when things go wrong: a job under faults, and malformed messages.

`python -m benchmarks.failures` runs a job of real reviews twice, calmly and then with faults at
random moments, and compares the outputs. `python -m benchmarks.failures fuzz` sends malformed
messages to a live worker. Both end by themselves.
"""
