"""`.daft.toml` as frozen models: what may stand in it, its defaults, and every problem of a file at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from daft_launcher import config_types as shape
from daft_launcher.config_problems import describe_problems
from daft_launcher.errors import ConfigError
from daft_launcher.instances import ProviderName

DEFAULT_IMAGE_ID = "ami-01c3c55948a949a52"

_Model = TypeVar("_Model", bound=BaseModel)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Setup(_Table):
    """The cluster: what it is called, where it runs and what is installed on it."""

    name: shape.ClusterName = Field(description="What the cluster is called. Required.")
    provider: ProviderName = Field(description="Where it runs: 'aws', or 'local' for this machine. Required.")
    region: shape.Region = Field("us-west-2", description="The AWS region.")
    ssh_user: shape.SshUser = Field("ec2-user", description="The account of the image to log in with.")
    number_of_workers: Annotated[int, Field(ge=0, le=5000)] = Field(
        2, description="How many worker nodes beside the head node."
    )
    instance_type: shape.InstanceType = Field("m7g.medium", description="The EC2 instance type of all nodes.")
    image_id: shape.ImageId | None = Field(
        None,
        description=f"The machine image of all nodes. Default: {DEFAULT_IMAGE_ID} for arm64 types in "
        "us-west-2, elsewhere the newest Amazon Linux 2023 for the instance type's architecture.",
    )
    dependencies: Annotated[tuple[shape.Line, ...], Field(strict=False, max_length=1000)] = Field(
        (), description="Python packages that the job needs, as pip takes them."
    )
    python_version: shape.PythonVersion | None = Field(
        None, description="The Python of the nodes. Default: 3.12 on aws, this machine's on local."
    )
    ray_version: shape.RayVersion | None = Field(
        None, description="The Ray of the nodes. Default: the newest."
    )
    daft_version: shape.DaftVersion | None = Field(
        None, description="The Daft of the nodes. Default: the newest."
    )
    package_index: shape.Url | None = Field(
        None, description="The package index that the nodes install from. Default: PyPI."
    )
    find_links: shape.Wheels | None = Field(
        None,
        description="A folder of the nodes, or a page, with wheels; without a package_index the only source.",
    )
    proxy: shape.Url | None = Field(
        None, description="The HTTP proxy through which the nodes reach packages and AWS."
    )
    disk_size_gb: Annotated[int, Field(ge=8, le=16384)] = Field(
        50, description="The size of each node's volume in GiB."
    )
    max_lifetime: shape.Span | None = Field(
        None, description="How long the cluster lives at the most, like '8h'. Default: until `daft down`."
    )
    idle_timeout: shape.Span | None = Field(
        None,
        description="After how long with no job and no SSH session the cluster ends, like '30m'. Default: never.",
    )
    tags: Annotated[dict[shape.TagKey, shape.TagValue], Field(max_length=40)] = Field(
        default_factory=dict, description="AWS tags for everything that is created."
    )


class Run(_Table):
    """What runs on the head node."""

    setup_commands: Annotated[tuple[shape.Command, ...], Field(strict=False, max_length=1000)] = Field(
        (), description="Shell commands to run on the head node once everything is installed."
    )
    command: shape.Command | None = Field(
        None, description="What `daft submit` runs when it is given no command."
    )


class Aws(_Table):
    """How the cluster fits into an AWS account."""

    profile: shape.Line | None = Field(None, description="The profile of the AWS configuration to use.")
    vpc_id: shape.VpcId | None = Field(None, description="The VPC. Default: the region's default VPC.")
    subnet_id: shape.SubnetId | None = Field(
        None, description="The subnet. Default: one whose zone offers the instance type."
    )
    ssh_allowed_cidrs: Annotated[tuple[shape.Cidr, ...], Field(strict=False, max_length=50)] = Field(
        (), description="Networks that may reach port 22. Default: the address of the machine that runs `up`."
    )
    ssh_key_name: shape.KeyName | None = Field(
        None, description="An EC2 key pair that exists. Default: a new one."
    )
    iam_instance_profile: shape.InstanceProfile | None = Field(
        None, description="An instance profile that exists, in place of a role of the cluster's own."
    )
    iam_policy_arns: Annotated[tuple[shape.PolicyArn, ...], Field(strict=False, max_length=10)] = Field(
        (), description="Policies to attach to the cluster's role, for the data that jobs read and write."
    )
    spot: bool = Field(False, description="Whether workers are spot instances.")

    @model_validator(mode="after")
    def _policies_need_a_role_of_ours(self) -> Aws:
        if self.iam_instance_profile and self.iam_policy_arns:
            raise ValueError(
                "has both iam_instance_profile and iam_policy_arns: attach the policies to the role of your "
                "profile, or leave one of the two out"
            )
        return self


class Prices(_Table):
    """What the user pays in US dollars, where that is not what AWS lists; only `up --plan` shows it."""

    instance_hour: dict[shape.PricedType, shape.Dollars] = Field(
        default_factory=dict,
        description="An hour of an instance on demand, by instance type. Default: what AWS's price list says.",
        json_schema_extra={"additionalProperties": False},
    )
    spot_hour: dict[shape.PricedType, shape.Dollars] = Field(
        default_factory=dict,
        description="An hour of a spot instance, by instance type. Default: the newest price of the zone.",
        json_schema_extra={"additionalProperties": False},
    )
    gp3_gb_month: shape.Dollars | None = Field(
        None, description="A GB of gp3 volume for a month. Default: what AWS's price list says."
    )


class AssumeRole(_Table):
    """The role to take on before the bucket is used, as where it belongs to an account of its own."""

    role_arn: shape.RoleArn = Field(description="The role. Required.")
    session_name: shape.SessionName | None = Field(None, description="What CloudTrail calls the session.")
    external_id: shape.Line | None = Field(None, description="What the role's trust policy asks for.")


class S3Backend(_Table):
    """Terraform's state in an S3 bucket; the keys are those of Terraform's own backend."""

    type: Literal["s3"]
    bucket: shape.Bucket = Field(description="The bucket; `daft backend create` makes it. Required.")
    key: shape.StateKey | None = Field(None, description="Default: daft/<name>/terraform.tfstate")
    region: shape.Region | None = Field(None, description="The bucket's region. Default: the cluster's.")
    profile: shape.Line | None = Field(
        None, description="The profile of the AWS configuration to use. Default: that of [aws]."
    )
    kms_key_id: shape.Line | None = Field(
        None, description="The KMS key to encrypt with. Default: a key of S3's own."
    )
    encrypt: bool = Field(True, description="Whether the state is encrypted where it lies.")
    use_lockfile: bool = Field(True, description="Whether one at a time may change the state.")
    assume_role: AssumeRole | None = Field(None, description="The role to take on for the bucket.")
    allowed_account_ids: Annotated[tuple[shape.AccountId, ...], Field(strict=False, max_length=50)] = Field(
        (), description="The AWS accounts in which the state may lie."
    )
    endpoints: dict[Literal["s3", "sts"], shape.Url] = Field(
        default_factory=dict,
        description="Other addresses of S3 and STS, as of a store that speaks as S3 does.",
    )
    use_path_style: bool | None = Field(
        None, description="Whether the bucket stands in the path of addresses."
    )
    skip_credentials_validation: bool | None = Field(None, description="For stores without STS.")
    skip_requesting_account_id: bool | None = Field(None, description="For stores without IAM and STS.")
    skip_region_validation: bool | None = Field(None, description="For regions that Terraform does not know.")
    skip_s3_checksum: bool | None = Field(None, description="For stores that know no checksums.")

    @model_validator(mode="after")
    def _a_key_encrypts(self) -> S3Backend:
        if self.kms_key_id and not self.encrypt:
            raise ValueError("has a kms_key_id and `encrypt = false`: leave one of the two out")
        return self


class LocalBackend(_Table):
    """Terraform's state in the state directory, or at `path`."""

    type: Literal["local"]
    path: shape.StatePath | None = None


class ClusterConfig(_Table):
    """A whole `.daft.toml`."""

    setup: Setup
    run: Run = Field(default_factory=lambda: Run())
    aws: Aws = Field(default_factory=lambda: Aws())
    backend: Annotated[S3Backend | LocalBackend, Field(discriminator="type")] = Field(
        default_factory=lambda: LocalBackend(type="local")
    )
    prices: Prices = Field(default_factory=lambda: Prices())

    @property
    def limits(self) -> dict[str, str]:
        """Return what ends the cluster by itself, as it is written; nothing on `local`, where nothing bills."""
        setup = self.setup
        named = {"max_lifetime": setup.max_lifetime, "idle_timeout": setup.idle_timeout}
        return {key: span for key, span in named.items() if span and setup.provider != "local"}

    def on(self, provider: ProviderName | None) -> ClusterConfig:
        """Return this configuration for another provider.

        Setup commands were written for the machines of the file's own provider: on `local` they would change
        the user's, so a configuration that is moved there drops them. Its state stays on this machine too.
        """
        if provider is None or provider == self.setup.provider:
            return self
        moved: dict[str, object] = {"setup": self.setup.model_copy(update={"provider": provider})}
        if provider == "local":
            moved["run"] = self.run.model_copy(update={"setup_commands": ()})
            moved["backend"] = LocalBackend(type="local")
        return self.model_copy(update=moved)


class ClusterReference(BaseModel):
    """As much of a `.daft.toml` as names a cluster: a file with other mistakes must not keep one alive."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    name: shape.ClusterName
    provider: ProviderName
    region: shape.Region = "us-west-2"
    ssh_user: shape.SshUser = "ec2-user"
    profile: str | None = None
    backend: Any = None

    def on(self, provider: ProviderName | None) -> ClusterReference:
        """Return the cluster of the same name at another provider."""
        return self.model_copy(update={"provider": provider}) if provider else self

    def bare_config(self) -> ClusterConfig:
        """Return a configuration that knows where the cluster is, and no more. Raises ConfigError."""
        data = {
            "setup": {"name": self.name, "provider": self.provider, "region": self.region},
            "aws": {"profile": self.profile},
            **({"backend": self.backend} if self.backend else {}),
        }
        try:
            return ClusterConfig.model_validate(data)
        except ValidationError as error:
            problems = describe_problems(error.errors(include_url=False), text="", schema=ClusterConfig)
        raise ConfigError(
            "the configuration does not say where the state lies: " + "; ".join(said for _, said in problems),
            hint="`daft up --plan` shows where the problem is",
        )


class _ReferenceFile(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    setup: ClusterReference
    aws: Any = None
    backend: Any = None


def load_config(path: Path) -> ClusterConfig:
    """Return the configuration in `path`. Raises ConfigError that lists every problem with its line."""
    return _validate(ClusterConfig, path)


def load_reference(path: Path) -> ClusterReference:
    """Return which cluster `path` means, whatever else is wrong in it. Raises ConfigError."""
    file = _validate(_ReferenceFile, path)
    profile = file.aws.get("profile") if isinstance(file.aws, dict) else None
    found = {"profile": profile if isinstance(profile, str) else None, "backend": file.backend}
    return file.setup.model_copy(update=found)


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema of `.daft.toml`."""
    schema = ClusterConfig.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": ".daft.toml"}


def _validate(model: type[_Model], path: Path) -> _Model:
    text, data = _load_toml(path)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = describe_problems(error.errors(include_url=False), text=text, schema=ClusterConfig)
        number = error.error_count()
    lines = "\n".join(f"  {path}:{line}: {problem}" for line, problem in problems)
    lines += f"\n  … and {number - len(problems):,} more" if number > len(problems) else ""
    count = "a problem" if number == 1 else f"{number:,} problems"
    raise ConfigError(
        f"{path} has {count}:\n{lines}", hint="`daft init-config` writes a file that names every key"
    )


def _load_toml(path: Path) -> tuple[str, dict[str, Any]]:
    import tomli

    try:
        text = path.read_text(encoding="utf-8-sig")
        return text, _with_underscores(tomli.loads(text))
    except FileNotFoundError:
        hint = "write one with `daft init-config`, or name yours with `--config FILE`"
        raise ConfigError(f"there is no {path}", hint=hint) from None
    except IsADirectoryError:
        hint = f"did you mean `{path}/.daft.toml`?"
        raise ConfigError(f"{path} is a directory, not a file", hint=hint) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}", hint="save it as UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        # Not only TOMLDecodeError: a number of thousands of digits and deep nesting fail in Python itself.
        raise ConfigError(
            f"{path} is not valid TOML: {error}", hint="https://toml.io has the rules"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def _with_underscores(data: dict[str, Any]) -> dict[str, Any]:
    """Spell the keys of tables with `_`; a key that stands there in both spellings stays, and is refused."""
    spelled: dict[str, Any] = {}
    for key, value in data.items():
        plain = key.replace("-", "_")
        target = key if plain in data and plain != key else plain
        named_by_user = plain in ("tags", "instance_hour", "spot_hour")
        spelled[target] = _with_underscores(value) if isinstance(value, dict) and not named_by_user else value
    return spelled
