"""The systems that the five PyTorch texts describe, on both sides."""
