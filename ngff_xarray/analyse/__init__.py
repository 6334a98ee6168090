"""Analysing images: functions over blocks, labels across their borders, measurements."""
