"""What denoising keeps and takes away, on lead telluride: line profile, residual and its transform, images side by side.

    python examples/stem_pbte.py [FOLDER]

By default a thin crystal in a minute or two on two cores; as in the thesis, 252 angstrom thick, in about ten times that:

    python examples/stem_pbte.py pbte --thickness 252 --shape 256 256 --frames 20

FOLDER/pbte.html has the figures. Stopped or killed, the same command goes on where it was.
"""

import sys

import emstore
from stem_chain import FIT, Chain, denoisers, named_weights, parser


def main(arguments: list[str]) -> None:
    """Run the whole chain."""
    options = parser("Line profile and residuals of lead telluride.", thickness=20.0, shape=(96, 128), doses=(1000,), frames=6)
    given = options.parse_args(arguments)
    chain = Chain(given.folder, "pbte")
    methods = denoisers(named_weights(given))
    clean = chain.simulate(
        "clean",
        {"material": "PbTe", "thickness": [given.thickness], "shape": list(given.shape), "pixel": 0.18, "seed": given.seed},
    )
    # Along x through the row of columns nearest to the middle.
    height, width = given.shape
    fit = chain.process("measure.columns", [clean], "clean-fit", **FIT)
    rows = emstore.open(fit).table().columns["y_index"].values
    row = min((round(float(one), 1) for one in rows), key=lambda one: abs(one - (height - 1) / 2))
    line = {"start": [row, 2.0], "stop": [row, width - 3.0], "width": 3.0}
    chain.process("measure.profile", [clean], "clean-line", **line)
    for dose in given.doses:
        noisy = chain.process("noise.digital", [clean], f"counted-{dose:g}", dose=dose, frames=given.frames, seed=given.seed)
        chain.process("measure.profile", [noisy], f"counted-{dose:g}-line", **line)
        for name, image in chain.denoise(noisy, methods, dose).items():
            chain.process("measure.profile", [image], f"{name}-{dose:g}-line", **line)
            chain.process("measure.residual", [noisy, image], f"{name}-{dose:g}-residual")
        chain.say(f"measured at {dose:g} electrons per square angstrom")
    chain.report(given.folder / "pbte.html", dose=given.doses[0])


if __name__ == "__main__":
    main(sys.argv[1:])
