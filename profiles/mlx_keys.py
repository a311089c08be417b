"""Types and ranges of mlx-lm's own keys: what mlx-lm would find out late, or never.

mlx-lm takes whatever the YAML says: `iters: "100"` fails after the model was loaded, `save_every: 0` at the first
iteration, `learning_rate: -1` never. A key that this list does not know is passed on unchecked.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictFloat

from stoker.profiles.schema import MAX_INT, Count, Text

Finite = Annotated[StrictFloat, Field(allow_inf_nan=False)]
Positive = Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)]


def _size(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str) or (isinstance(value, int) and value < 0):
        raise ValueError("expected a number of bytes, or a size such as 4GB")
    return value


def _sources(value: object) -> object:
    """One Hugging Face data set is the same as a list of one."""
    return [value] if isinstance(value, dict) else value


def services(report_to: str) -> list[str]:
    """Return the services that `report_to` names, as mlx-lm splits it."""
    return [name for item in report_to.split(",") if (name := item.strip().lower())]


class _Open(BaseModel):
    """Unknown keys are judged by the job loader, which knows what the interpreter's mlx-lm takes."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)


class LoraParameters(_Open):
    """Shape of LoRA and DoRA adapters."""

    rank: Count | None = None
    dropout: Annotated[StrictFloat, Field(ge=0, lt=1)] | None = None
    scale: Finite | None = None
    keys: list[Text] | None = None


class LrSchedule(_Open):
    """A schedule of mlx.optimizers; steps are optimizer steps, not iterations."""

    name: Text
    arguments: Annotated[list[Finite], Field(min_length=1)]
    warmup: Annotated[int, Field(ge=0, le=MAX_INT)] = 0
    warmup_init: Annotated[StrictFloat, Field(ge=0, allow_inf_nan=False)] = 0.0


class HubDataset(_Open):
    """One data set of the Hugging Face hub, loaded by `datasets`."""

    path: Text
    config: dict[str, Any] | None = None
    train_split: Text | None = None
    valid_split: Text | None = None
    test_split: Text | None = None
    prompt_feature: Text | None = None
    completion_feature: Text | None = None
    chat_feature: Text | None = None
    text_feature: Text | None = None
    mask_prompt: bool | None = None


class MlxLmKeys(_Open):
    """The keys of mlx_lm/lora.py's CONFIG_DEFAULTS and of its data sets."""

    model: Text | None = None
    train: bool | None = None
    fine_tune_type: Literal["lora", "dora", "full"] | None = None
    optimizer: Text | None = None
    optimizer_config: dict[str, dict[str, Any] | None] | None = None
    data: Text | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = None  # numpy's range
    num_layers: Annotated[int, Field(ge=-1, le=MAX_INT)] | None = None
    batch_size: Count | None = None
    iters: Count | None = None
    val_batches: Annotated[int, Field(ge=-1, le=MAX_INT)] | None = None
    learning_rate: Positive | None = None
    steps_per_report: Count | None = None
    steps_per_eval: Count | None = None
    resume_adapter_file: Text | None = None
    adapter_path: Text | None = None
    save_every: Count | None = None
    test: bool | None = None
    test_batches: Annotated[int, Field(ge=-1, le=MAX_INT)] | None = None
    max_seq_length: Annotated[int, Field(ge=2, le=MAX_INT)] | None = None  # a sequence of one has nothing to predict
    grad_checkpoint: bool | None = None
    grad_accumulation_steps: Count | None = None
    clear_cache_threshold: Annotated[Any, BeforeValidator(_size)] = None
    lr_schedule: LrSchedule | None = None
    lora_parameters: LoraParameters | None = None
    mask_prompt: bool | None = None
    report_to: Annotated[str, Field(max_length=200)] | None = None
    project_name: Text | None = None
    trust_remote_code: bool | None = None
    hf_dataset: Annotated[list[HubDataset], BeforeValidator(_sources), Field(min_length=1)] | None = None
    prompt_feature: Text | None = None
    completion_feature: Text | None = None
    chat_feature: Text | None = None
    text_feature: Text | None = None
