"""A Kubernetes control plane: etcd, API server, controller manager; no kubelet."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import ssl
import subprocess
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from world.process import (
    LOOPBACK,
    ComponentError,
    Process,
    free_ports,
    listens,
    script,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROOT = Path(__file__).resolve().parents[2]
_SOURCES = _ROOT / "tests" / "go"
_CRD = _ROOT / "crds" / "monitoredservers.yaml"
_CRD_NAME = "monitoredservers.hostwatch.dev"


def find_binary() -> Path:
    """Return the built control plane; raises `ComponentError` when it is not built."""
    named = os.environ.get("HOSTWATCH_CONTROLPLANE")
    path = Path(named) if named else _cached()
    if not path.exists():
        raise ComponentError(f"{path} is missing: build it with `make tools`")
    return path


class ControlPlane:
    """A cluster of its own, reached as an administrator through `kubeconfig`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._binary = find_binary()
        self._kubectl = script("kubectl")
        etcd, peer, self._port = free_ports(3)
        self._etcd_urls = tuple(f"http://{LOOPBACK}:{port}" for port in (etcd, peer))
        self._admin_token = secrets.token_hex(16)
        self._certificates = directory / "certificates"
        self._running = ExitStack()
        self._etcd = self._part("etcd", [directory / "etcd", *self._etcd_urls])
        self._api = self._part("apiserver", self._api_flags())
        self._controllers = self._part("controller-manager", self._controller_flags())
        self._etcd_port = etcd

    @property
    def url(self) -> str:
        return f"https://{LOOPBACK}:{self._port}"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    @property
    def certificate_authority(self) -> Path:
        """The PEM file that the API server's certificate is checked against."""
        return self._certificates / "apiserver.crt"

    def start(self) -> None:
        """Start all three parts in order."""
        self._write_keys()
        with ExitStack() as started:
            started.enter_context(self._etcd)
            self._etcd.start(lambda: listens(self._etcd_port))
            started.enter_context(self._api)
            self.start_api()
            self._write_kubeconfig(self.kubeconfig, self._admin_token)
            started.enter_context(self._controllers)
            self._controllers.start(lambda: True)
            self._running = started.pop_all()

    def stop(self) -> None:
        """Stop all parts; the data stay in the directory."""
        self._running.close()

    def start_api(self) -> None:
        """Bring the API server back on the same port, with the same data."""
        self._api.start(self._ready)

    def stop_api(self) -> None:
        """Take the API server away; etcd keeps the data."""
        # Asked politely it would wait a minute for the watches to end.
        self._api.stop(grace=0)

    def kubectl(
        self, *args: str | Path, stdin: str | None = None, check: bool = True
    ) -> str:
        """Run kubectl and return what it printed.

        Without ``check`` its error messages too, and a failure is no error;
        otherwise `ComponentError` carries them.
        """
        done = subprocess.run(
            [self._kubectl, *args],
            env={
                **os.environ,
                "KUBECONFIG": str(self.kubeconfig),
                "KUBECACHEDIR": str(self.directory / "kubectl-cache"),
            },
            input=stdin or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if not check:
            return done.stdout + done.stderr
        if done.returncode:
            command = " ".join(map(str, args))
            raise ComponentError(f"kubectl {command}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, manifest: str | Path) -> str:
        """Apply a file, or the text of a manifest."""
        if isinstance(manifest, Path):
            return self.kubectl("apply", "-f", manifest)
        return self.kubectl("apply", "-f", "-", stdin=manifest)

    def install_crd(self) -> None:
        """Install the MonitoredServer resource and wait until it is served."""
        self.kubectl("apply", "--server-side", "-f", _CRD)
        deadline = time.monotonic() + 60
        # kubectl wait fails on a resource that has no conditions at all yet.
        while "True" not in self.kubectl(
            *("get", "crd", _CRD_NAME, "-o"),
            'jsonpath={.status.conditions[?(@.type=="Established")].status}',
        ):
            if time.monotonic() > deadline:
                raise ComponentError(f"{_CRD_NAME} was not served in time")
            time.sleep(0.1)

    def token(self, namespace: str, service_account: str) -> str:
        """Return a token of a ServiceAccount, good for one hour."""
        return self.kubectl("create", "token", service_account, "-n", namespace).strip()

    def kubeconfig_for(self, token: str, *, namespace: str = "default") -> Path:
        """Write a kubeconfig that logs in with a token, and return its path."""
        name = hashlib.sha256(f"{namespace} {token}".encode()).hexdigest()[:16]
        path = self.directory / f"kubeconfig-{name}"
        self._write_kubeconfig(path, token, namespace=namespace)
        return path

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _part(self, name: str, flags: Sequence[str | Path]) -> Process:
        return Process(name, [self._binary, name, *flags], directory=self.directory)

    def _api_flags(self) -> list[str]:
        return [
            f"--etcd-servers={self._etcd_urls[0]}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self._port}",
            f"--cert-dir={self._certificates}",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            f"--service-account-key-file={self.directory / 'sa.pub'}",
            f"--service-account-signing-key-file={self.directory / 'sa.key'}",
            "--service-account-issuer=https://hostwatch.test",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            "--endpoint-reconciler-type=none",
        ]

    def _controller_flags(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig}",
            f"--service-account-private-key-file={self.directory / 'sa.key'}",
            f"--root-ca-file={self.certificate_authority}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--secure-port=0",
        ]

    def _write_keys(self) -> None:
        if (self.directory / "tokens.csv").exists():
            return
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (self.directory / "sa.key").write_bytes(private)
        (self.directory / "sa.pub").write_bytes(public)
        (self.directory / "tokens.csv").write_text(
            f'{self._admin_token},admin,admin,"system:masters"\n'
        )

    def _write_kubeconfig(
        self, path: Path, token: str, *, namespace: str = "default"
    ) -> None:
        authority = base64.b64encode(self.certificate_authority.read_bytes()).decode()
        cluster = {"server": self.url, "certificate-authority-data": authority}
        context = {"cluster": "hostwatch", "user": "user", "namespace": namespace}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "hostwatch", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "hostwatch", "context": context}],
            "current-context": "hostwatch",
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(document, indent=1))

    def _ready(self) -> bool:
        if not (self.certificate_authority.exists() and listens(self._port)):
            return False
        request = urllib.request.Request(  # noqa: S310 - always https
            f"{self.url}/readyz",
            headers={"Authorization": f"Bearer {self._admin_token}"},
        )
        try:
            trust = ssl.create_default_context(cafile=self.certificate_authority)
            with urllib.request.urlopen(request, timeout=2, context=trust):  # noqa: S310
                return True
        except OSError:
            return False


def _cached() -> Path:
    """Return where the Makefile puts the binary built from these sources."""
    digest = hashlib.sha256()
    for source in (
        _SOURCES / "go.sum",
        *sorted((_SOURCES / "controlplane").glob("*.go")),
    ):
        digest.update(source.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "hostwatch" / f"controlplane-{digest.hexdigest()[:16]}"
