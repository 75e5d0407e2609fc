"""How much the gateway takes in, beside loops that do less; `python -m tests.bench.ingest`."""
