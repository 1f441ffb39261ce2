"""ehpc-image-sync: which E-HPC images each instance type supports, and what changed when, in a SQL database."""
