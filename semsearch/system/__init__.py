"""What every package needs of the operating system: files written atomically, threads."""
