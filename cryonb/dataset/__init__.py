"""Data sets of labelled maps: built entry by entry, split, checked, counted."""
