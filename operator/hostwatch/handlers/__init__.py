"""kopf decorators: translate an event, call the application.

What does not belong here: logic.
"""
