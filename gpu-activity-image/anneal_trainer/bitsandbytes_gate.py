"""bitsandbytes, kept out until it is needed: peft imports it wherever it is installed, and on a host with GPUs it touches CUDA as it is
imported, after which a parent could not fork.
"""

import sys

_NAME = "bitsandbytes"


def keep_out() -> None:
    """Makes it look absent to libraries that are imported from now on."""
    if _NAME not in sys.modules:
        sys.modules[_NAME] = None


def let_in() -> None:
    """Lets it be imported from now on. Libraries remember whether it was there."""
    from peft import import_utils
    from transformers.utils import is_bitsandbytes_available

    if sys.modules.get(_NAME, ...) is None:
        del sys.modules[_NAME]
    for remembered in (import_utils.is_bnb_available, import_utils.is_bnb_4bit_available, is_bitsandbytes_available):
        remembered.cache_clear()
