"""Breaks while it is imported."""


def divide(by: int) -> float:
    return 1 / by


divide(0)
