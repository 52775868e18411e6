"""Fitting networks to versions.

`data` serves clean images and their noisy twins, `fitting` is the one loop that all trainings go through, `autoencoder` and
`poisson_unet` say which network, loss and noise, and `search` tries settings at random.
"""
