"""Services on this machine that behave as their documentation says."""
