"""The network: tensors in, tensors out. Knows nothing of files other than weights."""
