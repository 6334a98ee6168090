"""Draws docs/samples.png, the picture in the README: ``python docs/samples.py``."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import xarray as xr
from PIL import Image

import ngff_xarray

mpl.use("agg")
figure, axes = plt.subplots(
    1, 3, figsize=(11, 4.1), layout="constrained", width_ratios=[550 / 660, 1, 1]
)
for name, ax in zip(("cell", "retina", "histology"), axes, strict=True):
    tree = xr.open_datatree(ngff_xarray.sample(name))
    tree.ngff.plot(ax=ax, legend=False, labels=True, outline=True)
buffer = io.BytesIO()
figure.savefig(buffer, dpi=80)
Image.open(buffer).convert("RGB").quantize(128).save(Path(__file__).with_suffix(".png"))
