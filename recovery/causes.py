"""The closed list of causes, and what is true of each whatever rule named it."""

from typing import Literal, get_args

Cause = Literal[
    "healthy",
    "oom",
    "resource_limit",
    "gpu_timeout",
    "gpu_error",
    "nan_loss",
    "divergence",
    "loss_spike",
    "silent_gpu_failure",
    "top_layers_only",
    "checkpoint_corruption",
    "checkpoint_mismatch",
    "disk_full",
    "data_error",
    "config_error",
    "model_load_error",
    "dependency_error",
    "permission_denied",
    "network_error",
    "distributed_error",
    "hang",
    "slowdown",
    "segfault",
    "aborted",
    "killed",
    "interrupted",
    "python_error",
    "host_rebooted",
    "host_panic",
    "host_slept",
    "unknown",
]
Retryable = Literal["yes", "no", "adjusted"]
CAUSES: tuple[str, ...] = get_args(Cause)
