"""The contract: the kinds of ``pipewright.dev`` as types, and the CRDs that are generated from them.

Pure: the standard library and pydantic only. A field ships with the code that enforces it, and the docstring
under it is its documentation everywhere: in the CRD, in ``kubectl explain``, in ``docs/``.
"""
