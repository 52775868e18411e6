"""How precisely column distances survive a low dose: simulate, count, denoise, measure, report.

    python examples/stem_strain.py [FOLDER]

By default a thin crystal in a few minutes on two cores. The thesis's benchmark is the same script, hours long:

    python examples/stem_strain.py benchmark --thickness 252 --shape 256 256 --phonons 8 --frames 20

FOLDER/strain.html shows strain error against dose, and noise as a multiple of the Cramer-Rao bound, of every method. Stopped or
killed, the same command goes on where it was.
"""

import sys

from stem_chain import FIT, Chain, denoisers, named_weights, parser


def main(arguments: list[str]) -> None:
    """Run the whole chain."""
    options = parser("Strain error against dose.", thickness=50.0, shape=(96, 112), doses=(500, 1000, 2500, 5000, 7500, 10000))
    options.add_argument("--material", default="tellurene", help="any that `emstore simulators stem` names")
    options.add_argument("--phonons", type=int, default=1, help="frozen-phonon configurations to average over")
    options.add_argument("--pixel", type=float, default=0.2, help="size of a pixel, angstrom")
    options.add_argument("--clean", metavar="REF", help="an image simulated before, instead of a new one")
    given = options.parse_args(arguments)
    chain = Chain(given.folder, given.material.lower())
    methods = denoisers(named_weights(given))
    clean = given.clean or chain.simulate(
        "clean",
        {
            "material": given.material,
            "thickness": [given.thickness],
            "shape": list(given.shape),
            "pixel": given.pixel,
            "phonons": given.phonons,
            "full": True,  # every atom displaced on its own: a repeated cell has no strain error at infinite dose
            "seed": given.seed,
        },
    )
    columns = chain.process("measure.columns", [clean], "clean-fit", **FIT)
    chain.process("measure.strain", [columns], "clean-strain")
    chain.process("measure.strain", [columns], "clean-histogram", give="histogram")
    for dose in given.doses:
        noisy = chain.process("noise.digital", [clean], f"counted-{dose:g}", dose=dose, frames=given.frames, seed=given.seed)
        # The same fit of the image without noise, with the errors that counting at this dose cannot go below.
        # Columns too faint to be told from noise at this dose belong to it too.
        bound = chain.process("measure.columns", [clean], f"bound-{dose:g}", method="poisson", dose=dose, significance=0.0, **FIT)
        images = {"counted": noisy, **chain.denoise(noisy, methods, dose)}
        fits = {name: chain.process("measure.columns", [ref], f"{name}-{dose:g}-fit", **FIT) for name, ref in images.items()}
        fits["likelihood"] = chain.process("measure.columns", [noisy], f"likelihood-{dose:g}-fit", method="poisson", **FIT)
        for name, fit in fits.items():
            chain.measure("measure.strain", [fit], f"{name}-{dose:g}-strain", seed=given.seed)
            chain.measure("measure.strain", [fit], f"{name}-{dose:g}-histogram", give="histogram")
            chain.measure("measure.precision", [fit, bound], f"{name}-{dose:g}-precision", seed=given.seed)
            chain.measure("measure.matching", [fit, columns], f"{name}-{dose:g}-found", radius=0.5)
        chain.say(f"measured at {dose:g} electrons per square angstrom: {', '.join(fits)}")
    chain.report(given.folder / "strain.html")


if __name__ == "__main__":
    main(sys.argv[1:])
