"""One file per question; run them with `tinygrad-llm bench [NAME ...]`. The harness is tinygrad_llm/bench/."""
