"""From a configuration to the files of a Terraform root, in memory: the same bytes on every machine and run."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jinja2

from daft_launcher.assets import find_asset
from daft_launcher.backend import BACKEND_FILE, Backend
from daft_launcher.console_words import to_json
from daft_launcher.instances import ProviderName
from daft_launcher.models import PLACEHOLDER, TaggedResource
from daft_launcher.rendered import MARKER, REFERENCE_FILE, RenderedCluster, to_hcl

if TYPE_CHECKING:
    from daft_launcher.config import ClusterConfig

_NOTICE = f"{MARKER}; edit .daft.toml and run `daft render` instead of editing this file."
IMPORTS_FILE, HELD_FILE, ADOPTED_FILE = "imports.tf", "imports_override.tf", "adopted.tf"
_MODULE_SUFFIXES = (".tf", ".sh", ".py")
_SETUP_OF_LOCAL = {
    *("name", "number_of_workers", "dependencies", "python_version", "ray_version", "daft_version"),
    *("package_index", "find_links", "proxy"),
}


def render_cluster(config: ClusterConfig) -> RenderedCluster:
    """Return the Terraform root of a cluster. Needs neither Terraform nor credentials nor a network."""
    provider = config.setup.provider
    values = {
        "notice": _NOTICE,
        "provider": provider,
        "region": config.setup.region,
        "profile": config.aws.profile,
        "arguments": _arguments(config),
    }
    files = {
        ".gitignore": _render("gitignore.j2", values),
        BACKEND_FILE: render_backend(backend_of(config)),
        "main.tf": _render("main.tf.j2", values),
        REFERENCE_FILE: _reference(config),
        **_module_files(provider),
    }
    return RenderedCluster(files=dict(sorted(files.items())))


def render_backend(backend: Backend) -> str:
    """Return the file that tells Terraform where the state lies."""
    settings = dict(sorted(backend.settings.items()))
    return _render("backend.tf.j2", {"notice": _NOTICE, "backend_type": backend.type, "settings": settings})


def render_imports(resources: Sequence[TaggedResource], held: Mapping[str, str] | None) -> RenderedCluster:
    """Return the files that let a plan take in what exists under the addresses that the root has for it.

    `held` is what its head was made from, which the plan is to stay with.
    """
    files = {IMPORTS_FILE: _render("imports.tf.j2", {"notice": _NOTICE, "resources": resources})}
    if held:
        files[HELD_FILE] = _render("imports_override.tf.j2", {"notice": _NOTICE, "held": held})
    return RenderedCluster(files=files)


def render_adopted(resources: Mapping[str, TaggedResource]) -> RenderedCluster:
    """Return the file that takes in what exists as it is, each under the address that is its key."""
    text = _render("adopted.tf.j2", {"notice": _NOTICE, "resources": resources})
    return RenderedCluster(files={ADOPTED_FILE: text})


def render_starter_config(*, provider: ProviderName, name: str | None) -> str:
    """Return a commented `.daft.toml` in which every key of [setup] and [run] stands."""
    return _render("daft.toml.j2", {"provider": provider, "name": name or PLACEHOLDER})


def _render(template: str, values: Mapping[str, object]) -> str:
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> jinja2.Environment:
    """Compiling the templates is nine tenths of rendering, and done once."""
    # Nothing here is HTML; what goes into HCL goes through the `hcl` filter.
    environment = jinja2.Environment(  # noqa: S701 - no HTML
        loader=jinja2.FileSystemLoader(find_asset("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    environment.filters.update(hcl=to_hcl, pad=_pad)
    return environment


def _pad(text: str, names: Mapping[str, object]) -> str:
    """Fill a name up to the longest of its block, as `terraform fmt` does."""
    return text.ljust(max(map(len, names)))


def _arguments(config: ClusterConfig) -> dict[str, Any]:
    """Return the module's arguments that differ from its own defaults of null and empty, sorted by name."""
    setup = config.setup.model_dump(exclude={"provider"})
    if config.setup.provider == "local":
        arguments = {key: value for key, value in setup.items() if key in _SETUP_OF_LOCAL}
    else:
        arguments = {**setup, **config.aws.model_dump(exclude={"profile"})}
    arguments["setup_commands"] = config.run.setup_commands
    return {key: value for key, value in sorted(arguments.items()) if value not in (None, (), {})}


def backend_of(config: ClusterConfig) -> Backend:
    """Return the backend that a configuration asks for, with what it leaves to us filled in."""
    settings = config.backend.model_dump(exclude={"type"}, exclude_none=True)
    settings = {name: value for name, value in settings.items() if value not in ((), {})}
    if config.backend.type == "s3":
        settings.setdefault("key", f"daft/{config.setup.name}/terraform.tfstate")
        settings.setdefault("region", config.setup.region)
        if config.aws.profile:
            settings.setdefault("profile", config.aws.profile)
    return Backend(type=config.backend.type, settings=settings)


def _reference(config: ClusterConfig) -> str:
    reference = {
        "//": _NOTICE,
        "name": config.setup.name,
        "profile": config.aws.profile,
        "provider": config.setup.provider,
        "region": config.setup.region if config.setup.provider == "aws" else "local",
    }
    return f"{to_json(reference)}\n"


@functools.cache
def _module_files(provider: ProviderName) -> Mapping[str, str]:
    folder = find_asset(f"terraform/{provider}")
    return {
        f"modules/{provider}/{path.name}": _with_notice(path.read_text(encoding="utf-8"))
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix in _MODULE_SUFFIXES
    }


def _with_notice(text: str) -> str:
    first, newline, rest = text.partition("\n")
    if first.startswith("#!"):
        return f"{first}{newline}# {_NOTICE}\n{rest}"
    return f"# {_NOTICE}\n{text}"
