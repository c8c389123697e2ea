"""Retrieval: ask for a function of Python's own library in words. Texts that belong together get vectors that are close.

    python examples/search_python_library.py                 # a minute or two
    python examples/search_python_library.py --ask "shuffle a list randomly"
"""

import argparse
import ast
import re
import sysconfig
from pathlib import Path

import numpy as np

import tinygrad_llm as tg
from tinygrad_llm import functional as F
from tinygrad_llm import models, objectives, optim, text
from tinygrad_llm.data import Examples

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=400)
parser.add_argument("--ask", default="wait until a thread has ended")
args = parser.parse_args()


# 1. Pairs from the library's source: the first sentence of a function's docstring, and its name with its arguments.
def pairs_in(path: Path):
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name[0] != "_" and (says := ast.get_docstring(node)):
            sentence = re.split(r"(?<=[.!?])\s|\n\n", says)[0].replace("\n", " ")
            if len(sentence.split()) > 3:
                place = path.parent.name if path.stem == "__init__" else path.stem
                yield sentence, f"{place}.{node.name}({', '.join(a.arg for a in node.args.args if a.arg != 'self')})"


library = Path(sysconfig.get_paths()["stdlib"])
files = [p for p in sorted(library.rglob("*.py")) if not {"site-packages", "test", "tests", "idlelib"} & set(p.parts)]
pairs = sorted({name: (sentence, name) for p in files for sentence, name in pairs_in(p)}.values())
pairs = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))]
held, train = pairs[:300], pairs[300:]

# 2. One encoder reads both sides; names are cut into words, os.path.is_dir and isDir alike.
words = lambda s: re.sub(r"[_.(),]+|(?<=[a-z])(?=[A-Z])", " ", s).lower()
tokenizer = text.train("wordpiece", [words(side) for p in train for side in p], 4000, style="bert")
roles = {f"{role}_id": tokenizer.special[role] for role in ("pad", "cls", "sep")}
model = models.create("bert-tiny", num_hidden_layers=2, num_attention_heads=4, hidden_size=128, intermediate_size=512,
                      max_position_embeddings=32, vocab_size=tokenizer.vocab_size, rng=np.random.default_rng(0))  # fmt: skip
print(f"{model.num_parameters():,} parameters, {len(train):,} functions to learn from, {len(held)} to find")


# 3. Vectors of length one: the mean of a text's last hidden states, padding left out.
def vectors(texts):
    ids = [tokenizer.encode(words(t)) for t in texts]
    batch = objectives.classification(ids, np.zeros(len(ids)), max_length=32, **roles)
    states = model.sentence_embeddings(batch["input_ids"], batch["attention_mask"])
    return states / tg.norm(states, axis=-1, keepdims=True)


# 4. Each sentence must choose its name among the batch's, and each name its sentence.   Radford et al. 2021, section 2.3
def loss_of(examples):
    sentences, names = map(vectors, zip(*examples))
    scores, right = sentences @ names.T / 0.05, np.arange(len(examples))
    return (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right)) / 2


def held_out_loss():
    with tg.no_grad(), tg.nn.evaluating(model):
        return loss_of(held[:64]).item()


optimizer = optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
schedule = optim.cosine(optimizer, warmup=args.steps // 20, total=args.steps, minimum=0.05)
source = Examples(train, seed=0)
print(f"step 0: held-out loss {held_out_loss():.3f}")
for step in range(1, args.steps + 1):
    loss_of(source.draw(64)).backward()
    optimizer.clip_and_step(1.0)
    optimizer.zero_grad(), schedule.step()
    if step % max(1, args.steps // 5) == 0:
        print(f"step {step}: held-out loss {held_out_loss():.3f}")

# 5. Searching: the nearest names, and beside them what counting shared words finds, rare ones more.
def found(scores) -> str:
    rank = ((-scores).argsort(axis=1, kind="stable") == np.arange(len(scores))[:, None]).argmax(axis=1)
    return f"first for {np.mean(rank == 0):.0%}, among the first ten for {np.mean(rank < 10):.0%}"


bags = [set(words(name).split()) for _, name in pairs]
rarity = {w: np.log(len(bags) / sum(w in bag for bag in bags)) for w in set().union(*bags)}
shared = [[sum(rarity[w] for w in set(words(s).split()) & b) / len(b) ** 0.5 for b in bags[: len(held)]] for s, _ in held]
with tg.no_grad(), tg.nn.evaluating(model):
    names = vectors([name for _, name in pairs]).data
    print(f"of {len(held)} held-out functions the right one is {found(vectors([s for s, _ in held]).data @ names[: len(held)].T)}")
    print(f"by shared words: {found(np.array(shared))}")
    near = (names @ vectors([args.ask]).data[0]).argsort()[::-1][:5]
print(f"{args.ask}:", *(pairs[i][1] for i in near), sep="\n  ")
