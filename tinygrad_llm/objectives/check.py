"""What the objectives ask of their numbers."""

from .._check import need, whole


def check_share(name: str, share: float) -> None:
    need(name, share, lambda x: 0 <= x <= 1, "a share of the tokens, from 0 to 1")


def check_span(mean_span: float) -> None:
    need("mean_span", mean_span, lambda x: 0 < x < float("inf"), "a length in tokens, above 0")


def ids_if_given(**ids: int | None) -> list[list[int]]:
    """Of each special token a list to join with a text: its id, or nothing where it is None."""
    return [[] if i is None else [whole(name, i)] for name, i in ids.items()]
