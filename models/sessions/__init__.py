"""One graph on one device: choice of the device, runtimes, and rewrites when a graph is loaded."""
