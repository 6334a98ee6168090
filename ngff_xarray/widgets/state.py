"""One change at a time.

A notebook may handle several messages at once, each in a thread of its own, and viewers that are
linked change each other. What a change starts from must not be changed by another one meanwhile.
"""

import threading

STATE = threading.RLock()
"""Held by who changes what a viewer shows."""
