"""The tests of the E-HPC client."""
