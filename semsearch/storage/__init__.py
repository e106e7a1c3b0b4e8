"""The files of an index: how they are written, read and checked."""
