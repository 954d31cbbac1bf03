"""What every long-lived process needs: starting, signals, a supervisor, logs, health over HTTP."""
