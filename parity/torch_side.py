"""Where scripts that `parity diagnose --script` wrote in version 0.1 find `with_masks`."""

from .backends.torch import with_masks


__all__ = ["with_masks"]
