"""The judge of the whole job."""
