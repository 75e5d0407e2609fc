"""The development stack: real servers on this machine, each under the identities that production has.

`make up` is `python -m dev up`; the tests' fixtures use the same code. `dev.stack` is the story, the
other modules are its servers and tools. Nothing here is shipped.
"""
