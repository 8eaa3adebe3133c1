"""One file per command: the only place that puts rooms together. Each function is both API and command."""
