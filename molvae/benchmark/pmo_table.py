"""Put stored PMO results beside the published ones.

In: a directory that `molvae.benchmark.stored_runs` filled with `molvae.benchmark.pmo`'s plan. Out: its table.
"""

from __future__ import annotations

from pathlib import Path

from molvae.benchmark.pmo import CALLS, Plan
from molvae.benchmark.task_table import Published, TaskTable
from molvae.benchmark.task_table import read_table as read_task_table

COLUMNS = ("NF-BO", "REINVENT", "Graph GA", "Genetic-GFN", "InVirtuoGen")
PUBLISHED: dict[str, tuple[float, ...]] = {
    "albuterol_similarity": (0.817, 0.882, 0.838, 0.949, 0.950),
    "amlodipine_mpo": (0.672, 0.635, 0.661, 0.761, 0.733),
    "celecoxib_rediscovery": (0.546, 0.713, 0.630, 0.802, 0.798),
    "deco_hop": (0.675, 0.666, 0.619, 0.733, 0.748),
    "fexofenadine_mpo": (0.784, 0.784, 0.760, 0.856, 0.845),
    "isomers_c7h8n2o2": (0.748, 0.852, 0.862, 0.969, 0.968),
    "isomers_c9h10n2o2pf2cl": (0.842, 0.642, 0.719, 0.897, 0.874),
    "median1": (0.340, 0.356, 0.294, 0.379, 0.342),
    "median2": (0.260, 0.276, 0.273, 0.294, 0.288),
    "mestranol_similarity": (0.607, 0.618, 0.579, 0.708, 0.797),
    "osimertinib_mpo": (0.828, 0.837, 0.831, 0.860, 0.870),
    "perindopril_mpo": (0.586, 0.537, 0.538, 0.595, 0.645),
    "qed": (0.941, 0.941, 0.940, 0.942, 0.942),
    "ranolazine_mpo": (0.698, 0.760, 0.728, 0.819, 0.848),
    "scaffold_hop": (0.629, 0.560, 0.517, 0.615, 0.589),
    "sitagliptin_mpo": (0.516, 0.021, 0.433, 0.634, 0.709),
    "thiothixene_rediscovery": (0.496, 0.534, 0.479, 0.583, 0.625),
    "troglitazone_rediscovery": (0.375, 0.441, 0.390, 0.511, 0.595),
    "valsartan_smarts": (0.594, 0.178, 0.0, 0.135, 0.210),
    "zaleplon_mpo": (0.504, 0.358, 0.346, 0.552, 0.536),
}
"""AUC of the top 10 at 10,000 calls, in the order of `COLUMNS`, as their papers and PMO print them."""

TITLE = "AUC of the top 10"
WHOLE = "PMO-20"


def read_table(directory: Path, plan: Plan) -> TaskTable:
    """Return the table of a directory.

    Raises:
        InputError: when a stored result cannot be read.
    """
    return read_task_table(directory, plan, TITLE, Published(COLUMNS, PUBLISHED, WHOLE, CALLS))
