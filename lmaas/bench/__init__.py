"""How fast a running installation answers: what `lmaas bench` asks, counts and draws."""
