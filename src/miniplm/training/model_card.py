"""The model card that a trained model carries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from miniplm.manifest import versions


@dataclass(frozen=True)
class CardFacts:
    """What the card says; FLOPs are those of training alone."""

    name: str
    num_params: int
    corpus: str
    num_sequences: int
    num_tokens: int
    num_steps: int
    flops: float
    max_length: int
    settings: Mapping[str, Any]


def model_card(facts: CardFacts) -> str:
    """A README.md in the form the Hugging Face hub reads."""
    used = versions()
    settings = yaml.safe_dump(dict(facts.settings), sort_keys=False).rstrip()
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags:
- miniplm
---
# {facts.name}

A causal language model of {facts.num_params:,} parameters, pre-trained from scratch with
[miniplm](https://arxiv.org/abs/2410.17215) on {facts.corpus}.

| | |
|---|---|
| sequences to train on | {facts.num_sequences:,} of up to {facts.max_length:,} tokens |
| steps | {facts.num_steps:,} |
| tokens seen | {facts.num_tokens:,} ({facts.num_tokens / facts.num_params:.1f} per parameter) |
| training compute | {facts.flops:.3g} FLOPs |
| made with | torch {used.get("torch", "?")}, transformers {used.get("transformers", "?")} |

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
ids = tokenizer("The", return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, max_new_tokens=40)[0]))
```

The model was trained for a comparison of pre-training methods. It has had no instruction tuning
and no safety tuning.

## Training settings

```yaml
{settings}
```
"""
