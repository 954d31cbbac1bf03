"""Webhooks that come in: who sends them is checked, what they say is classified."""
