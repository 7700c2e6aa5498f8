"""What is said over HTTP about blocks, for both ends: paths, CIDs and batches, without any I/O."""
