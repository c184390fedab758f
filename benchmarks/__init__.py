"""Side-by-side benchmarks; each module but the shared ones is a command.

    python -m benchmarks.training --help

from the repository's root. Peers run in processes of their own (`peers`), take turns
(`harness`), share their options (`options`), and end in a table, JSON and a chart
(`report`). What must agree, rather than be fast, is in `benchmarks.checks`.
"""
