"""Webhooks that go out: events of jobs, signed, tried again until they are received."""
