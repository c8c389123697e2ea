"""What a model is trained to do, one file per idea. ndarrays in, a dict of model arguments out.

    batch = objectives.masked(ids, mask_id=4, vocab_size=1000, special=[0, 2, 3], rng=rng)
    loss = model(**batch).loss

The keys are the argument names of `transformers`; a label of -100 counts in no loss. Randomness comes from `rng` alone, or,
without one, from the generator that `tg.manual_seed` seeds.

| objective | family | paper |
| --- | --- | --- |
| causal | GPT, GPT-2, GPT-3, Llama | Radford et al. 2018 |
| masked, next_sentence | BERT; masked alone: RoBERTa | Devlin et al. 2019, Liu et al. 2019 |
| sentence_order | ALBERT | Lan et al. 2020 |
| replaced_token | ELECTRA | Clark et al. 2020 |
| text_infilling, permute_sentences, delete_tokens, mask_tokens, rotate | BART | Lewis et al. 2020 |
| span_corruption | T5 | Raffel et al. 2020 |
| translation | Transformer | Vaswani et al. 2017 |
| classification | any encoder, BART, GPT, GPT-2, GPT-3, Llama | Devlin et al. 2019, Radford et al. 2018 |
"""

from .causal import causal
from .infilling import delete_tokens, mask_tokens, permute_sentences, rotate, text_infilling
from .masked import masked
from .pairs import next_sentence, sentence_order
from .replaced import replaced_token
from .spans import span_corruption
from .supervised import classification, translation

__all__ = ["causal", "classification", "delete_tokens", "mask_tokens", "masked", "next_sentence", "permute_sentences",
           "replaced_token", "rotate", "sentence_order", "span_corruption", "text_infilling", "translation"]
