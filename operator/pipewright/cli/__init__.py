"""`python -m pipewright.cli`: what people ask the gateway from a shell, with a token of the cluster.

Never reads the cluster or a database: whatever it does, the gateway has authorised.
"""
