"""``python -m ngff_xarray``: the command ``ngff-xarray``."""

from ngff_xarray.commands import main

if __name__ == "__main__":
    main()
