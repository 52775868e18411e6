"""Versions as training data: patches of any size in any order, for PyTorch, TensorFlow, or plain NumPy.

From the bottom up: `tiling` says where patches start and which lie near each other, `inputs` which arrays they are cut from and
what a sample looks like, `order` in which order an epoch serves them and who serves which; `patches` joins these into a plan;
`reader` reads samples within a memory bound. `pytorch` and `tfdata` make datasets of it.
"""
