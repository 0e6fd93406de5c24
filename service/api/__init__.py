"""The HTTP API: no model is loaded here, and no library that runs one."""
