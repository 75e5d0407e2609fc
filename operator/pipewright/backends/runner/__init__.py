"""The runner's ports over our own stores and connectors: rows and manifests in, values of `runner_facts` out.

Each adapter takes what it needs (pools, a clock, another port) and is put together in `operator/main.py`.
"""
