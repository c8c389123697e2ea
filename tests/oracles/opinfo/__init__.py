"""PyTorch's own test material (its OpInfo tables) as an oracle: which of its operations ours answer to, and the runner."""
