"""Law: no public signature changes by accident: `signatures.txt` lists them all.

After an intended change, write it anew::

    python tests/project/test_signatures.py > tests/project/signatures.txt
"""

import importlib
import inspect
import pathlib
import re


FILE = pathlib.Path(__file__).with_name("signatures.txt")
MODULES = (
    "jaxrnn", "jaxrnn.checkpoints", "jaxrnn.convert", "jaxrnn.data", "jaxrnn.linen",
    "jaxrnn.losses", "jaxrnn.models", "jaxrnn.nnx", "jaxrnn.optim", "jaxrnn.search", "jaxrnn.text",
    "jaxrnn.training", "parity",
)  # fmt: skip


def signature(function):
    """Returns names, kinds and defaults as text, without annotations and addresses of objects."""
    # nnx's metaclass hides the arguments of its modules.
    made = inspect.isclass(function) and inspect.isfunction(function.__init__)
    whole = inspect.signature(function.__init__ if made else function)
    bare = [p.replace(annotation=p.empty) for p in whole.parameters.values()]
    text = str(whole.replace(parameters=bare, return_annotation=whole.empty))
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def public_names(module):
    """Returns `__all__`, or the names of the functions and classes that the module defines."""
    here = lambda value: getattr(value, "__module__", "").startswith(module.__name__)
    names = [key for key, value in vars(module).items() if here(value) and not key.startswith("_")]
    return getattr(module, "__all__", names)


def methods(kind):
    """Yields the public methods that our classes define, and `__call__`."""
    for name in dir(kind):
        method = inspect.getattr_static(kind, name)
        if inspect.isfunction(method) and method.__module__.startswith(("jaxrnn", "parity")):
            public = not name.startswith("_") and "._" not in method.__module__
            if public or name == "__call__":
                yield name, method


def signatures():
    """Returns the full name and signature of every public function, class and method."""
    lines = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for key in public_names(module):
            value = getattr(module, key)
            if callable(value):
                lines[f"{name}.{key}"] = signature(value)
            if inspect.isclass(value):
                lines |= {f"{name}.{key}.{of}": signature(f) for of, f in methods(value)}
    return [f"{name}{lines[name]}" for name in sorted(lines)]


def test_signatures():
    assert signatures() == FILE.read_text().splitlines()


if __name__ == "__main__":
    print("\n".join(signatures()))
