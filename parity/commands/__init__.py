"""`python -m parity` and its commands, one file each; all are called as `run` of `layers` is."""

COMMANDS = {  # and the files that hold them; `layers` is what runs without a name
    "compare": "port",
    "trace": "port",
    "diagnose": "diagnose",
    "check": "check",
    "documents": "texts",
    "training": "texts",
    "voices": "voices",
    "bench": "bench",
}
