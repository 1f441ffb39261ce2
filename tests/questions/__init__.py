"""Every question, by command and by README's SQL, against a brute-force model of random histories."""
