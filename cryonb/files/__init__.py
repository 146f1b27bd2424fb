"""Files: maps, models, entries of public archives and ChimeraX scripts."""
