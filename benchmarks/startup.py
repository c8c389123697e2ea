"""How long from process start: importing the package, asking for help, and the first generated token of a small model?

Every call is a new interpreter. Imports race numpy's and torch's, with the engine, which `import tinygrad_llm` alone puts off;
what the engine adds is the difference to numpy's line.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from _checkpoints import checkpoint

from tinygrad_llm.bench import Case, Options
from tinygrad_llm.bench.child import output_of

SMALL = {"vocab_size": 256, "n_positions": 64, "n_embd": 128, "n_head": 4, "n_layer": 4, "dropout": 0.0}
FIRST_TOKEN = """
import numpy as np, sys
import tinygrad_llm as tg
tg.models.load(sys.argv[1]).generate(np.arange(8)[None], max_new_tokens=1)
"""


def cases(options: Options) -> Iterator[Case]:
    imports = Case("import with the engine", check=False)
    imports.contestant("ours")(lambda: partial(output_of, "-c", "import tinygrad_llm; tinygrad_llm.Tensor"))
    imports.contestant("numpy")(lambda: partial(output_of, "-c", "import numpy"))
    imports.contestant("torch")(lambda: partial(output_of, "-c", "import torch"))
    yield imports

    ours_only = Case("tinygrad-llm --help", check=False)
    ours_only.contestant("ours")(lambda: partial(output_of, "-m", "tinygrad_llm", "--help"))
    yield ours_only

    first = Case("first token of a 4 x 128 model, kernels in the cache", check=False)
    first.contestant("ours")(lambda: partial(output_of, "-c", FIRST_TOKEN, str(checkpoint("gpt2", **SMALL))))
    yield first
