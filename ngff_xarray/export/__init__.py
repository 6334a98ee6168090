"""To viewers, libraries and files: layers, links, specs, arrays, copies, a store on a port.

A module a viewer, library or format, which is imported inside the functions that need it.
"""
