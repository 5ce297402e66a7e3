"""What is wrong with a port of a recurrent layer."""
