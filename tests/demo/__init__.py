"""``make demo``: the whole of Hostwatch on this machine, watched live."""
