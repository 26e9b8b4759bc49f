"""What was read of a mesh, kept where it can be asked: a cache of the topics that can be made again at any time."""
