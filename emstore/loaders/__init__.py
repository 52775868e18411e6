"""Versions as training data: PyTorch and TensorFlow datasets."""
