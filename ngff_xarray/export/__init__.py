"""To viewers and libraries: layers, links, specs and arrays, and a store on a loopback port.

A module a viewer or library, which is imported inside the functions that need it.
"""
