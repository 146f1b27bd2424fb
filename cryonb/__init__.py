"""cryonb: interpret cryo-EM density maps in a notebook.

Lengths are in Å. Arrays are indexed (z, y, x), points are (x, y, z); only `Grid` converts. The
origin is the centre of voxel (0, 0, 0). The flow: open or fetch a map and a model, process the map,
predict, evaluate, show.
"""

from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

#: Public names by stage, and the module that each comes from.
_HOMES = {
    # objects
    "Grid": "cryonb.grid",
    "Volume": "cryonb.volume",
    "LabelVolume": "cryonb.volume",
    "ProbabilityVolume": "cryonb.volume",
    "Atoms": "cryonb.atoms",
    "DensityMap": "cryonb.density_map",
    "CryonbError": "cryonb.errors",
    # open
    "open_map": "cryonb.opening",
    "open_model": "cryonb.opening",
    "open_sequences": "cryonb.opening",
    "half_maps": "cryonb.opening",
    "fetch": "cryonb.opening",
    "fetch_map": "cryonb.opening",
    "fetch_model": "cryonb.opening",
    "example": "cryonb.opening",
    "example_model": "cryonb.opening",
    # simulate
    "fourier_map": "cryonb.simulate.fourier",
    "gaussian_map": "cryonb.simulate.gaussian",
    # process
    "combine": "cryonb.process.combine",
    "difference": "cryonb.process.difference",
    "prepare": "cryonb.preparation",
    # see
    "Scene": "cryonb.show.view",
    # train
    "train_network": "cryonb.train.loop",
    # fit
    "fit": "cryonb.fitting.rigid",
    "refine": "cryonb.fitting.refine",
    # trace
    "map_to_model": "cryonb.building",
    "align": "cryonb.trace.alignment",
    "sequence_from_map": "cryonb.trace.sequence",
    "name_fragments": "cryonb.trace.naming",
    "trace_chains": "cryonb.trace.chains",
    "rebuild_backbone": "cryonb.trace.rebuild",
    "add_side_chains": "cryonb.trace.side_chains",
    # judge
    "Benchmark": "cryonb.comparison",
    "benchmark": "cryonb.comparison",
    "compare_chains": "cryonb.evaluate.chain",
    "published_quartiles": "cryonb.evaluate.published",
    "published_scores": "cryonb.evaluate.published",
    "stored_benchmark": "cryonb.comparison",
    # label
    "secondary_structure": "cryonb.label.secondary_structure",
    "label_volume": "cryonb.label.voxels",
    "published_labels": "cryonb.label.published",
    # data sets
    "find_entries": "cryonb.files.archive_search",
    "build_dataset": "cryonb.dataset.build",
    "validate_dataset": "cryonb.dataset.check",
}

__all__ = [*sorted({*_HOMES, "simulate"})]


class _Simulate(ModuleType):
    """The room `cryonb.simulate`, which can be called: `nb.simulate(model, resolution=3)`.

    Importing anything from the room binds its name here, over a function of that name.
    """

    def __call__(self, model, **options):
        """Simulate the map of a model: see `cryonb.opening.simulate`."""
        from cryonb.opening import simulate

        return simulate(model, **options)


import_module("cryonb.simulate").__class__ = _Simulate


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'cryonb' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
