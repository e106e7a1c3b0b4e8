"""Files and threads: the operating system as the other packages use it."""
