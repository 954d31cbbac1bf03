"""Every figure that the README quotes. `python -m benchmarks NAME [--json FILE]`.

Each benchmark module has `async def measure() -> Report`; what is compared runs side by side in
one run. Absolute figures are one machine's; the ratios are what to look at. `report` says what a
report has, `output` shows and writes it, and `load` makes the calls of callers; the tests of
failures in `benchmarks.failures` use the same.
"""
