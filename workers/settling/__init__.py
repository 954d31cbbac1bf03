"""The end of a pack on the worker: reply, the broker's confirm, then the ack; never otherwise.

A pack that could not be answered goes to a retry queue, when `broker_config.retry` says that a
later try may go better; else the caller gets its error, and a copy goes to the dead letter queue.
"""
