"""The scripts are for other environments."""

collect_ignore_glob = ["read_*.py", "napari_*.py", "spatialdata_*.py"]
