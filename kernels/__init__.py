"""Custom kernels, each beside its plain reference. Installed as edgespec.kernels: import them from there."""
