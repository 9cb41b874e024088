"""The real components that tests and the demo run against, on loopback.

Plain classes without pytest: each is a context manager that keeps its files and its
log in the directory it is given. The asynchronous ones (`scripted`, `proxy`) run
inside the event loop of the test that scripts them.
"""
