"""BERT by masked tokens: hide 15% of a text, learn to say what was there, then ask the model.

    python examples/bert_masked_pretraining.py your.txt
    python examples/bert_masked_pretraining.py               # on the source text of Python's own library
"""

import argparse

import numpy as np

import tinygrad_llm as tg
from tinygrad_llm import models, objectives, optim, text
from tinygrad_llm.data import IGNORE, Windows, split_ids
from tinygrad_llm.generate import fill_mask

parser = argparse.ArgumentParser()
parser.add_argument("file", nargs="?")
parser.add_argument("--steps", type=int, default=1000)
args = parser.parse_args()

# 1. Ids 0 to 4 are [PAD] [UNK] [CLS] [SEP] [MASK]; the characters follow.
corpus = text.read_text(args.file) if args.file else text.builtin_corpus()
tokenizer = text.train("chars", corpus, style="bert")
special = tokenizer.special
train_ids, held_ids = split_ids(tokenizer.encode(corpus))

# 2. An encoder with the masked-language-model head.
CONTEXT = 64
model = models.create("bert-tiny", head="masked_lm", num_hidden_layers=3, num_attention_heads=4, hidden_size=96,
                      intermediate_size=384, max_position_embeddings=CONTEXT, vocab_size=tokenizer.vocab_size, dropout=0.0,
                      rng=np.random.default_rng(0))  # fmt: skip
print(f"{model.num_parameters():,} parameters, {len(train_ids):,} characters to learn from")


# 3. A batch: [CLS] text [SEP], 15% chosen; of those 80% become [MASK], 10% another character, 10% stay.
def batch_of(windows, rng):
    ids = np.pad(windows, ((0, 0), (1, 1)), constant_values=special["cls"])
    ids[:, -1] = special["sep"]
    return objectives.masked(ids, mask_id=special["mask"], vocab_size=tokenizer.vocab_size, special=special.values(), rng=rng)


def held_out():
    """(loss, share of the hidden characters that are guessed right)"""
    batch = batch_of(Windows(held_ids, CONTEXT - 2, seed=1).draw(64), np.random.default_rng(1))
    with tg.no_grad():
        out = model(**batch)
    hidden = batch["labels"] != IGNORE
    return out.loss.item(), np.mean(out.logits.data.argmax(-1)[hidden] == batch["labels"][hidden])


# 4. Training.
optimizer = optim.AdamW(optim.decay_groups(model.named_parameters(), 0.01), lr=2e-3)
schedule = optim.linear(optimizer, warmup=args.steps // 10, total=args.steps)
windows, rng = Windows(train_ids, CONTEXT - 2, seed=0), np.random.default_rng(0)
loss, right = held_out()
print(f"step 0: held-out loss {loss:.3f}, {right:.0%} right")
for step in range(1, args.steps + 1):
    model(**batch_of(windows.draw(16), rng)).loss.backward()
    optimizer.clip_and_step(1.0)
    optimizer.zero_grad()
    schedule.step()
    if step % max(1, args.steps // 5) == 0:
        loss, right = held_out()
        print(f"step {step}: held-out loss {loss:.3f}, {right:.0%} right")

# 5. Asking: what stands behind the mask in a piece of held-out text?
piece = held_ids[: CONTEXT - 2].copy()
place = len(piece) // 2
answer = tokenizer.decode(piece[place : place + 1])
piece[place] = special["mask"]
ids = np.concatenate([[special["cls"]], piece, [special["sep"]]])
print("Text:", repr(tokenizer.decode(piece)))
guesses = fill_mask(model, ids, special["mask"])[0][0]
print(f"It was {answer!r}; guesses:", [(tokenizer.decode([t]), round(p, 2)) for t, p in guesses])
