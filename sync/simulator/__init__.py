"""An E-HPC endpoint on loopback: official wire format, verified signatures, a moving catalogue, faults on demand."""
