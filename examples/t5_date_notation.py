"""T5 learns to rewrite dates: "3 march 1998" -> "1998-03-03". Sequence to sequence from pairs that a line of code makes.

    python examples/t5_date_notation.py                      # a few minutes; most held-out dates come out right
"""

import argparse
import datetime

import numpy as np

import tinygrad_llm as tg
from tinygrad_llm import models, objectives, optim, text
from tinygrad_llm.data import Examples

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=1500)
args = parser.parse_args()
rng = np.random.default_rng(0)


# 1. Pairs: a date in one notation and in the other. Days that are held out are never seen in training.
def pair(day: int) -> tuple[str, str]:
    date = datetime.date(1950, 1, 1) + datetime.timedelta(days=int(day))
    return f"{date.day} {date:%B} {date.year}".lower(), date.isoformat()


days = rng.permutation(100 * 365)[:12_000]
pairs = [pair(d) for d in days]
tokenizer = text.train("chars", [side for p in pairs for side in p], style="t5")
pad, eos = tokenizer.special["pad"], tokenizer.special["eos"]
encoded = [(tokenizer.encode(a), tokenizer.encode(b)) for a, b in pairs]
train, held = encoded[200:], encoded[:200]

# 2. A small T5: two layers on each side.
model = models.create("t5-small", d_model=64, d_kv=16, d_ff=256, num_layers=2, num_decoder_layers=2, num_heads=4, dropout_rate=0.0,
                      vocab_size=tokenizer.vocab_size, pad_token_id=pad, eos_token_id=eos, decoder_start_token_id=pad,
                      rng=np.random.default_rng(0))  # fmt: skip
print(f"{model.num_parameters():,} parameters, {len(train):,} pairs")


# 3. A batch, padded, with labels that end in </s>; the model itself makes the decoder's input from the labels.
def batch_of(examples):
    return objectives.translation(*zip(*examples), pad_id=pad, eos_id=eos)


def held_out_loss():
    with tg.no_grad():
        return model(**batch_of(held)).loss.item()


# 4. Training.
optimizer = optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
schedule = optim.cosine(optimizer, warmup=args.steps // 20, total=args.steps, minimum=0.05)
source = Examples(train, seed=0)
print(f"step 0: held-out loss {held_out_loss():.3f}")
for step in range(1, args.steps + 1):
    model(**batch_of(source.draw(32))).loss.backward()
    optimizer.clip_and_step(1.0)
    optimizer.zero_grad()
    schedule.step()
    if step % max(1, args.steps // 5) == 0:
        print(f"step {step}: held-out loss {held_out_loss():.3f}")


# 5. Using it: beam search over dates that it has not seen.
def rewrite(ids) -> str:
    out = model.generate(np.append(ids, eos), max_new_tokens=12, num_beams=3)[0, 1:]
    return tokenizer.decode([t for t in out if t not in (pad, eos)])


shown = [(tokenizer.decode(a), rewrite(a), tokenizer.decode(b)) for a, b in held[:50]]
for asked, got, expected in shown[:5]:
    print(f"{asked:20} -> {got:12} {'right' if got == expected else 'wrong, ' + expected}")
print(f"held-out dates right: {np.mean([got == expected for _, got, expected in shown]):.0%}")
