"""What the objectives ask of their numbers."""


def check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"{name}: expected a share of the tokens, from 0 to 1; got {share}")


def check_span(mean_span: float) -> None:
    if not 0 < mean_span < float("inf"):
        raise ValueError(f"mean_span: expected a length in tokens, above 0; got {mean_span}")
