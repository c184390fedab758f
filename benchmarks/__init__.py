"""Side-by-side benchmarks; each module but the shared ones is a command.

    python -m benchmarks.training --help

from the repository's root. Peers run in processes of their own (`peers`), take turns
(`harness`), and end in a table, a JSON file and a chart (`report`).
"""
