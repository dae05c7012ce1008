"""x"""


def write_comparison(*a): ...
