"""How fast is each stage: against the published way, and against the limit.

``python -m benchmarks`` lists the stages; ``python -m benchmarks NAME``
runs some, ``make bench`` all. Ours, the published way and the limit of the
machine take turns in one process, so that a ratio holds on a noisy machine.
"""
