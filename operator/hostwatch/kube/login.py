"""Where the API server is, and who we are there."""

from __future__ import annotations

import os
import time
from pathlib import Path

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_kube_config
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

_CONNECTIONS = 32
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubeConfigError(Exception):
    """There is no usable configuration; the message names what to set."""


class Login:
    """The configuration of a kubeconfig file or of a pod, with a fresh token.

    ``kubeconfig`` is a path; without it the variable KUBECONFIG decides, then the
    pod's ServiceAccount, then ``~/.kube/config``. ``context`` is one of the file's,
    the current one by default. The token is read again once it is
    ``renew_after`` seconds old: kubelet replaces the file long before it expires, and
    a credential plugin gives a new one.
    """

    def __init__(
        self,
        *,
        kubeconfig: str | None = None,
        context: str | None = None,
        service_account: Path = _SERVICE_ACCOUNT,
        renew_after: float = 60.0,
    ) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._service_account = service_account
        self._renew_after = renew_after
        self._read_at = 0.0
        self._namespace = "default"

    @property
    def namespace(self) -> str:
        """The pod's namespace, or that of the kubeconfig's context."""
        return self._namespace

    async def open(self) -> Configuration:
        """Return the configuration; it renews itself. Raises `KubeConfigError`."""
        configuration = Configuration(connection_pool_maxsize=_CONNECTIONS)
        try:
            await self._read(configuration)
        except (ConfigException, OSError, ValueError, KeyError) as error:
            raise KubeConfigError(
                f"cannot read the Kubernetes configuration: {error}; set KUBECONFIG to "
                "a kubeconfig file, or run in a pod with a ServiceAccount"
            ) from error
        configuration.refresh_api_key_hook = self._renew  # type: ignore[assignment]
        return configuration

    async def _renew(self, configuration: Configuration) -> None:
        if time.monotonic() - self._read_at >= self._renew_after:
            await self._read(configuration)

    async def _read(self, configuration: Configuration) -> None:
        self._read_at = time.monotonic()
        path = self._kubeconfig or os.environ.get("KUBECONFIG")
        in_pod = os.environ.get("KUBERNETES_SERVICE_HOST")
        if path is None and self._context is None and in_pod:
            self._read_service_account(configuration)
        else:
            if path:
                source = "the command line" if self._kubeconfig else "KUBECONFIG"
                _require_one(path, source)
            await self._read_kubeconfig(configuration, path or _home())

    def _read_service_account(self, configuration: Configuration) -> None:
        directory = self._service_account
        InClusterConfigLoader(  # type: ignore[no-untyped-call]
            token_filename=str(directory / "token"),
            cert_filename=str(directory / "ca.crt"),
            try_refresh_token=False,
        ).load_and_set(configuration)
        self._namespace = (directory / "namespace").read_text().strip()

    async def _read_kubeconfig(self, configuration: Configuration, path: str) -> None:
        loader = await load_kube_config(  # type: ignore[no-untyped-call]
            config_file=path,
            context=self._context,
            client_configuration=configuration,
            persist_config=False,
        )
        context = loader.current_context.get("context") or {}
        self._namespace = str(context.get("namespace") or "default")


def _require_one(paths: str, source: str) -> None:
    """Refuse a list as KUBECONFIG holds it if no file of it is there.

    The library passes over missing files and then complains of an empty configuration.
    """
    named = filter(None, paths.split(os.pathsep))
    if not any(Path(path).expanduser().exists() for path in named):
        raise ConfigException(f"{source} names {paths}, which is not there")


def _home() -> str:
    return str(Path("~/.kube/config").expanduser())
