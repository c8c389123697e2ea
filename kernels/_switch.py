"""Environment variables that choose how kernels run, checked where they are read."""

import os


def switch(name, *choices):
    """The variable's value, one of `choices`; "" where it is not set."""
    value = os.environ.get(name, "")
    if value and value not in choices:
        raise ValueError(f"environment variable {name}: expected {' or '.join(choices)}, got {value!r}; unset it for the default")
    return value
