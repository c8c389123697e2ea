"""GPT on your own text: characters in, a small decoder, and it writes.

    python examples/gpt_on_your_text.py your.txt            # about a minute for the default 1,000 steps
    python examples/gpt_on_your_text.py                     # on the source text of Python's own library

The same as `tinygrad-llm train your.txt && tinygrad-llm generate ...`, spelt out so that every part can be changed.
"""

import argparse

import numpy as np

import tinygrad_llm as tg
from tinygrad_llm import models, optim, text
from tinygrad_llm.data import Windows, split_ids

parser = argparse.ArgumentParser()
parser.add_argument("file", nargs="?")
parser.add_argument("--steps", type=int, default=1000)
args = parser.parse_args()

# 1. Text to ids: one id per character.
corpus = text.read_text(args.file) if args.file else text.builtin_corpus()
tokenizer = text.train("chars", corpus)
train_ids, held_ids = split_ids(tokenizer.encode(corpus))

# 2. A decoder: 4 layers, 4 heads, 128 columns, 64 positions.
CONTEXT = 64
model = models.create("gpt2", num_hidden_layers=4, num_attention_heads=4, hidden_size=128, max_position_embeddings=CONTEXT,
                      vocab_size=tokenizer.vocab_size, dropout=0.0, bos_token_id=None, eos_token_id=None,
                      rng=np.random.default_rng(0))  # fmt: skip
print(f"{model.num_parameters():,} parameters, {len(train_ids):,} characters to learn from")


# 3. The loss: every position predicts the next character.
def loss_on(windows):
    logits = model(input_ids=windows[:, :-1]).logits  # (B, T, V)
    return tg.functional.cross_entropy(logits.reshape(-1, tokenizer.vocab_size), windows[:, 1:].reshape(-1))


def held_out_loss():
    windows = Windows(held_ids, CONTEXT + 1, seed=1).draw(64)
    with tg.no_grad():
        return loss_on(windows).item()


# 4. Training: draw, backward, clip, step.
optimizer = optim.AdamW(optim.decay_groups(model.named_parameters(), 0.1), lr=1e-3, betas=(0.9, 0.99))
schedule = optim.cosine(optimizer, warmup=args.steps // 20, total=args.steps, minimum=0.1)
windows = Windows(train_ids, CONTEXT + 1, seed=0)
print(f"step 0: held-out loss {held_out_loss():.3f}; knowing nothing is {np.log(tokenizer.vocab_size):.3f}")
for step in range(1, args.steps + 1):
    loss = loss_on(windows.draw(12))
    loss.backward()
    optimizer.clip_and_step(1.0)
    optimizer.zero_grad()
    schedule.step()
    if step % max(1, args.steps // 5) == 0:
        print(f"step {step}: training loss {loss.item():.3f}, held-out loss {held_out_loss():.3f}")

# 5. Writing: draw from the 20 most probable characters, each as it comes.
prompt = tokenizer.encode("\n")
out = model.generate(prompt, max_new_tokens=CONTEXT - 1, do_sample=True, temperature=0.8, top_k=20, rng=np.random.default_rng(0))
print("It writes:", tokenizer.decode(out[0]))
