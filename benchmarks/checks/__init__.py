"""What must agree or be refused, on more than the tests have time or packages for.

    python -m benchmarks.checks.parity

Weights of other libraries, torch's form of the networks, exports, malformed requests.
"""
