"""What is left when things go wrong: each is a command, and ends by itself.

`python -m benchmarks.failures suite`, or without a name, runs a job of real reviews twice, calmly
and then with faults at random moments, and compares the outputs. `cluster` kills the nodes of a
cluster one by one while reviews are classified. `waiting` restarts a broker in which a job waits,
and again when half of it is done. `fuzz` sends malformed messages to a live worker, `hostile`
those that mean harm. `soak` runs the suite with one seed after the other.

All of them end in a `benchmarks.report.Report`; who misses a goal exits with 1, and a suite that
stands still with 4.
"""
