"""Widgets for notebooks: the canvas that draws what the kernel renders."""
