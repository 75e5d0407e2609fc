"""How fast Tenants become Ready, beside a bare loop of the same writes; `python -m tests.bench.tenants`."""
