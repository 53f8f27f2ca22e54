"""Our own models on disk and on the Hugging Face hub: loaded with messages that say what was looked for."""

import difflib
import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar, Self

from huggingface_hub import PyTorchModelHubMixin
from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError

from lidar_lightning.assets import asset_path, shipped_names
from lidar_lightning.utils.errors import closest
from lidar_lightning.utils.hub import at_revision
from lidar_lightning.utils.weights import check_weights, save_weights

ABSENT = (LocalEntryNotFoundError, EntryNotFoundError, HfHubHTTPError, HFValidationError, OSError)


class HubModel(PyTorchModelHubMixin):
    """A model in a folder with config.json, its constructor's arguments, and model.safetensors.

    Attributes:
        published: keys that published configurations have beyond the arguments, and that change nothing here. The keys
            of every transformers configuration are ignored too.
    """

    published: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def load(cls, name: str | Path, what: str, advice: str = "", **settings: Any) -> Self:
        """Loads the model of a shipped name, a folder, or a hub repository (OWNER/REPOSITORY, perhaps @REVISION).

        Args:
            name: the shipped name, folder or repository.
            what: what messages call the model, such as "UDLM checkpoint".
            advice: what the message adds if there is no such model.

        Raises:
            ValueError: if it cannot be found, its configuration is damaged or has an unknown key, or its weights are
                damaged, not finite or of another architecture.
        """
        if not isinstance(name, str | Path):
            raise ValueError(f"a {what} is given by a shipped name, a folder or a hub repository, got {name!r}")
        repository, revision = at_revision(str(name))
        source = asset_path(repository) or Path(repository).expanduser()
        if not source.is_dir():
            source = Path(repository)
        elif not (source / "config.json").is_file():
            raise ValueError(f"no {what} at {str(name)!r}: the folder holds no config.json")
        try:
            return cls.from_hub(str(source), strict=True, **{"revision": revision, **settings})
        except ABSENT as error:
            near = difflib.get_close_matches(str(name), shipped_names(), 1, 0.8)
            raise ValueError(
                f"no {what} at {str(name)!r}: {f'did you mean {near[0]}? ' if near else ''}"
                f"it is neither a shipped name, a folder with config.json and "
                f"model.safetensors, nor a hub repository within reach{advice} ({error})"
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"config.json of {str(name)!r} is damaged: {error}") from error
        except (AttributeError, TypeError) as error:
            raise ValueError(f"config.json of {str(name)!r} does not describe a {cls.__name__}: {error}") from error
        except (RuntimeError, SafetensorError) as error:
            raise ValueError(f"the weights at {str(source)!r} do not fit this architecture: {error}") from error

    @classmethod
    def from_hub(cls, source: str, **settings: Any) -> Self:
        return super().from_pretrained(source, **settings)

    def _save_pretrained(self, save_directory: Path) -> None:
        save_weights(save_directory / SAFETENSORS_SINGLE_FILE, self.state_dict())  # type: ignore[attr-defined]

    @classmethod
    def _load_as_safetensor(cls, model: Any, model_file: str, map_location: str, strict: bool) -> Any:
        check_weights(model_file)
        return super()._load_as_safetensor(model, model_file, map_location, strict)

    @classmethod
    def _from_pretrained(cls, *, config: dict[str, Any] | None = None, **settings: Any) -> Self:
        known = {*cls._hub_mixin_init_parameters, *cls.published} - {"self"}
        unknown = [key for key in config or {} if key not in known]
        if unknown:
            from transformers import PretrainedConfig

            unknown = [key for key in unknown if key not in {*PretrainedConfig().to_dict(), "auto_map", "torch_dtype"}]
        if unknown:
            raise ValueError(f"config.json has the unknown key {unknown[0]!r}: {closest(unknown[0], known)}")
        with redirect_stdout(StringIO()):  # it prints that the weights are local
            return super()._from_pretrained(**settings)
