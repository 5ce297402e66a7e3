"""Other frameworks next to jaxrnn: their times and their answers."""
