"""Ids for the small models, a made-up profile, and what a report's page holds."""

import json
import re

import numpy as np

from tinygrad_llm import lens
from tinygrad_llm.lens.tape import Call

IDS = np.random.default_rng(0).integers(1, 60, (2, 17))


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S).group(1))


def made_up(*calls):
    """A profile of (operation, module, forward, backward, flops, moved)."""
    report = lens.Profile()
    for i, (op, module, forward, backward, flops, moved) in enumerate(calls):
        report.calls.append(Call(i, op, module, [(2,)], [(2,)], "float32", forward, flops, moved, 8, backward, 2 * flops))
    return report
