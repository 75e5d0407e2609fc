"""The one error of the development stack: it is shown to a person, without a traceback."""


class Problem(Exception):
    """Something that the user can act on; the message says what, where and what to do next."""
