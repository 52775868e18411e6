"""Fitting networks to versions.

`data` serves clean images and their noisy twins, `fitting` is the one loop that all trainings go through, `autoencoder` and
`poisson_unet` say which network, loss and noise, `search` tries settings at random, and
`shipping` puts trained weights among those that come with emstore.
"""
