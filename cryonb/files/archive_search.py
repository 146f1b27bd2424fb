"""Questions to the EMDB's search: which entries have a resolution within limits, and a model."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from cryonb.errors import ArchiveError, CryonbError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["find_entries"]

#: What is asked of each entry, by the names of the archive's fields.
_FIELDS = ("emdb_id", "resolution", "fitted_pdbs", "title")
_PAGE = 1000
_TIMEOUT, _PAUSE = 60.0, 1.0


def find_entries(
    *, finest: float = 1.0, coarsest: float = 4.0, method: str | None = "singleParticle",
    query: str = "", with_model: bool = True, limit: int | None = None, url: str | None = None,
    retries: int = 4, progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Ask the EMDB for released entries, such as for `nb.build_dataset`.

    Parameters
    ----------
    finest, coarsest : float
        Limits of the resolution that the authors report, in Å.
    method : str or None
        singleParticle, helical, subtomogramAveraging, ... by the archive's names; None for any.
    query : str
        Further terms in the language of the archive's search, such as
        'release_date:[2020-01-01T00:00:00Z TO *]' or 'sample_type:"virus"'.
    with_model : bool
        Leave out entries to which no PDB entry is fitted.
    limit : int, optional
        At most so many entries, in the archive's order.
    url : str, optional
        Address of the search. Default: CRYONB_EMDB_SEARCH_URL, or EMBL-EBI's.
    retries : int
        How often to try again where the connection breaks.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    pandas.DataFrame
        A row an entry: emdb ("EMD-30342"), resolution (Å), pdb (codes of the fitted models, parted
        by blanks) and title. `nb.build_dataset` takes it as it is.

    Raises
    ------
    CryonbError
        If the limits are not in order.
    ArchiveError
        If the search cannot be reached, or answers with something else than a table.
    """
    import pandas as pd
    import requests
    from tqdm.auto import tqdm

    from cryonb.files.archive import base_address

    if not 0 < finest < coarsest:
        raise CryonbError(
            "A finest resolution above 0 Å and below the coarsest was expected, but "
            f"finest={finest:g} and coarsest={coarsest:g} were given."
        )
    terms = ['current_status:"REL"', f"resolution:[{finest:g} TO {coarsest:g}]"]
    if method is not None:
        terms.append(f'structure_determination_method:"{method}"')
    if query:
        terms.append(f"({query})")
    address = f"{base_address('emdb_search', url)}/{quote(' AND '.join(terms), safe='')}"
    pages, found = [], 0
    with requests.Session() as session, tqdm(desc="entries", disable=not progress) as bar:
        while True:
            page = _page(session, address, len(pages) + 1, retries)
            whole = len(page) == _PAGE
            if with_model:
                page = page[page["fitted_pdbs"] != ""]
            pages.append(page)
            found += len(page)
            bar.update(len(page))
            if not whole or (limit is not None and found >= limit):
                break
    table = pd.concat(pages, ignore_index=True)[:limit]
    codes = table["fitted_pdbs"].str.upper().str.split(r"[,;\s]+", regex=True).str.join(" ")
    return pd.DataFrame(
        {
            "emdb": table["emdb_id"], "resolution": pd.to_numeric(table["resolution"]),
            "pdb": codes.str.strip(), "title": table["title"],
        }
    )  # fmt: skip


def _page(session, address: str, number: int, retries: int):
    """One page of answers, as a table of text."""
    import pandas as pd
    import requests

    asked = {"rows": _PAGE, "page": number, "fl": ",".join(_FIELDS), "wt": "csv"}
    for attempt in range(retries + 1):
        if attempt:
            time.sleep(_PAUSE * 2 ** (attempt - 1))
        try:
            answer = session.get(
                address, params=asked, headers={"Accept": "text/csv"}, timeout=_TIMEOUT
            )
            answer.raise_for_status()
            break
        except requests.RequestException as error:
            # A question that the archive does not understand is not understood the second time.
            code = getattr(error.response, "status_code", None)
            if attempt == retries or (code is not None and code < 500):
                raise ArchiveError(
                    f"The EMDB's search was to answer at {address}, but: {error}; try again "
                    "later, or look at query=."
                ) from error
    # The archive sends no more than a line of names, or nothing, where there is no entry.
    text = answer.text.strip() or ",".join(_FIELDS)
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError):
        table = pd.DataFrame()
    if not set(_FIELDS) <= set(table.columns):
        raise ArchiveError(
            f"A table with {', '.join(_FIELDS)} was expected from the EMDB's search at {address}, "
            f"but it began with {text[:60]!r}."
        )
    return table
