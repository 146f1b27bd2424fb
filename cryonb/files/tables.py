"""Tables of results as CSV files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cryonb.files.atomic import written_beside

__all__ = ["write_tables"]


def write_tables(folder, **tables: pd.DataFrame | pd.Series) -> Path:
    """Write tables into a folder, each as a CSV file of its name, and give the folder.

    Parameters
    ----------
    folder : path-like
        Made if need be.
    **tables : pandas.DataFrame or pandas.Series
        Rows of a frame are written without their index, a series as names and values.
    """
    folder = Path(folder)
    for name, table in tables.items():
        values = isinstance(table, pd.Series)
        with written_beside(folder / f"{name}.csv") as beside:
            (table.rename("value") if values else table).to_csv(beside, index=values)
    return folder
