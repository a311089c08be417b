"""What mlx tells about memory, in every version, and whether there is room to keep a snapshot beside the training."""

import os

import mlx.core as mx

_SHARE = 0.9  # of the memory that training may use


def peak() -> int:
    """Highest use so far in bytes, as mlx-lm reports it."""
    return int(mx.get_peak_memory()) if hasattr(mx, "get_peak_memory") else 0


def active() -> int:
    """Bytes in use by arrays."""
    return int(mx.get_active_memory()) if hasattr(mx, "get_active_memory") else 0


def cached() -> int:
    """Bytes that mlx keeps for reuse; they count for the system but not for `peak`."""
    return int(mx.get_cache_memory()) if hasattr(mx, "get_cache_memory") else 0


def device_facts() -> dict[str, object]:
    """Mlx's description of the device, empty where it has none."""
    if hasattr(mx, "device_info"):
        return dict(mx.device_info())
    return dict(mx.metal.device_info()) if mx.metal.is_available() else {}


def device_name() -> str:
    """`cpu`, or `gpu` with its name."""
    kind = "gpu" if mx.default_device().type == mx.DeviceType.gpu else "cpu"
    name = str(device_facts().get("device_name", ""))
    return f"{kind} {name}".strip()


def has_room_for(snapshot: int) -> bool:
    """Whether old arrays of this many bytes may live on while training makes new ones.

    If not, the checkpoint is written before training goes on: slower, but it must not be what runs the machine out of
    memory.
    """
    limit = device_facts().get("max_recommended_working_set_size")
    usable = limit if isinstance(limit, int) else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return peak() + snapshot <= _SHARE * usable


def set_wired_limit() -> None:
    """As mlx-lm does at the start of training: let Metal keep the model in memory."""
    if mx.metal.is_available():
        recommended = device_facts().get("max_recommended_working_set_size")
        if isinstance(recommended, int):
            mx.set_wired_limit(recommended)
