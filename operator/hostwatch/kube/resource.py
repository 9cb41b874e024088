"""From the body of a MonitoredServer to a `Server`, and who its tenant is."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

from hostwatch.health.alert_rules import alerts_from
from hostwatch.kube.names import (
    ACCEPT_HOST_KEY_ANNOTATION,
    COLLECT_ANNOTATION,
    ORGANIZATION_LABEL,
)
from hostwatch.kube.part import InvalidFieldError, Part
from hostwatch.model.server import (
    Alerting,
    HostKeyPolicy,
    Organization,
    Server,
    ServerId,
    ServerSpec,
    Threshold,
    Thresholds,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULTS = ServerSpec(host="", secret_name="")
_KEY_LENGTH = 16384

_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\+-]*\$?")
_OBJECT_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_GLOB = re.compile(r"[/*][^\x00-\x1f\x7f]*")


def server_of(body: Mapping[str, Any], *, allow_trust_on_first_use: bool) -> Server:
    """Translate a resource; a spec that cannot be used is told in ``invalid``."""
    metadata = body.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    spec, invalid = None, ""
    try:
        spec = _spec_of(
            Part("spec", body.get("spec")),
            allow_trust_on_first_use=allow_trust_on_first_use,
        )
    except InvalidFieldError as error:
        invalid = str(error)
    return Server(
        id=ServerId(str(metadata.get("uid", ""))),
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata.get("name", "")),
        generation=int(metadata.get("generation") or 0),
        spec=spec,
        invalid=invalid,
        labels=dict(metadata.get("labels") or {}),
        collect_request=str(annotations.get(COLLECT_ANNOTATION) or ""),
        accept_host_key=str(annotations.get(ACCEPT_HOST_KEY_ANNOTATION) or ""),
    )


def organization_of(
    namespace: str, labels: Mapping[str, str] | None, *, require_label: bool
) -> Organization | None:
    """Return the tenant of a namespace; None where it has none that is usable.

    A label that is there but no DNS label counts as a mistake: the namespace's name
    does not stand in for it.
    """
    label = (labels or {}).get(ORGANIZATION_LABEL)
    if label is None and require_label:
        return None
    name = namespace if label is None else label
    return Organization(name) if _DNS_LABEL.fullmatch(name) else None


def _spec_of(spec: Part, *, allow_trust_on_first_use: bool) -> ServerSpec:
    if spec.has("jumpHostRef"):
        raise spec.invalid("jumpHostRef", "not supported yet by this version")
    thresholds = _thresholds(spec.part("thresholds"))
    return ServerSpec(
        host=_host(spec),
        secret_name=_secret_name(spec.part("credentials").part("secretRef")),
        port=spec.integer("port", low=1, high=65535, default=_DEFAULTS.port),
        user=_user(spec),
        host_key=_host_key(
            spec.part("hostKey"), allow_trust_on_first_use=allow_trust_on_first_use
        ),
        connection=spec.choice("connection", default=_DEFAULTS.connection),
        interval=spec.integer(
            "intervalSeconds", low=5, high=3600, default=_DEFAULTS.interval
        ),
        timeout=spec.integer(
            "timeoutSeconds", low=1, high=300, default=_DEFAULTS.timeout
        ),
        retries=spec.integer("retries", low=0, high=5, default=_DEFAULTS.retries),
        suspend=spec.boolean("suspend", default=_DEFAULTS.suspend),
        thresholds=thresholds,
        alerting=_alerting(spec.part("alerting"), thresholds),
        exclude=_excluded(spec.part("filesystems")),
    )


def _host(spec: Part) -> str:
    host = spec.text("host", longest=253)
    if not (_is_address(host) or _is_dns_name(host)):
        raise spec.invalid(
            "host",
            "must be a DNS name in lower case or an IP address, without brackets, "
            "zone, port or user",
        )
    return host


def _is_address(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if not isinstance(address, IPv6Address):
        return True
    return address.scope_id is None and address.ipv4_mapped is None


def _is_dns_name(host: str) -> bool:
    """Tell a name from a number: resolvers read 0x7f.1 and 2130706433 as addresses."""
    labels = host.removesuffix(".").split(".")
    return labels[-1][:1].isalpha() and all(map(_DNS_LABEL.fullmatch, labels))


def _secret_name(reference: Part) -> str:
    name = reference.text("name", longest=253)
    if not _OBJECT_NAME.fullmatch(name):
        raise reference.invalid("name", "must be the name of a Secret")
    return name


def _user(spec: Part) -> str:
    user = spec.text("user", longest=64, default=_DEFAULTS.user)
    if not _USER.fullmatch(user):
        raise spec.invalid("user", "must be the name of an account")
    return user


def _host_key(part: Part, *, allow_trust_on_first_use: bool) -> HostKeyPolicy:
    policy = HostKeyPolicy(
        known_hosts=_keys(part, "knownHosts"),
        certificate_authority=_keys(part, "certificateAuthority"),
        trust_on_first_use=part.boolean("trustOnFirstUse", default=False),
    )
    chosen = (
        policy.known_hosts is not None,
        policy.certificate_authority is not None,
        policy.trust_on_first_use,
    )
    if sum(chosen) > 1:
        raise InvalidFieldError(
            part.path,
            "set at most one of knownHosts, certificateAuthority and trustOnFirstUse",
        )
    if policy.trust_on_first_use and not allow_trust_on_first_use:
        raise part.invalid(
            "trustOnFirstUse",
            "not allowed by this operator: set knownHosts, or known_hosts in the "
            "Secret, or start it with HOSTWATCH_ALLOW_TRUST_ON_FIRST_USE=true",
        )
    return policy


def _keys(part: Part, name: str) -> str | None:
    if not part.has(name):
        return None
    keys = part.text(name, longest=_KEY_LENGTH)
    if "PRIVATE KEY" in keys:
        raise part.invalid(name, "must not hold a private key: take the .pub file")
    return keys


def _thresholds(part: Part) -> Thresholds:
    defaults = _DEFAULTS.thresholds
    return Thresholds(
        cpu=_threshold(part.part("cpu"), defaults.cpu),
        memory=_threshold(part.part("memory"), defaults.memory),
        disk=_threshold(part.part("disk"), defaults.disk),
    )


def _threshold(part: Part, default: Threshold) -> Threshold:
    warning = part.number("warning", low=1, high=100, default=default.warning)
    critical = part.number("critical", low=1, high=100, default=default.critical)
    if warning >= critical:
        raise part.invalid(
            "warning",
            f"must be lower than critical: {warning:g} is not lower than {critical:g}; "
            "what is not set takes the operator's default",
        )
    return Threshold(warning, critical)


def _alerting(part: Part, thresholds: Thresholds) -> Alerting:
    defaults = _DEFAULTS.alerting
    alerting = Alerting(
        cpu=part.choice("cpu", default=defaults.cpu),
        memory=part.choice("memory", default=defaults.memory),
        disk=part.choice("disk", default=defaults.disk),
        for_seconds=_seconds(part, "forSeconds", defaults.for_seconds),
        clear_margin=part.number(
            "clearMargin", low=0, high=50, default=defaults.clear_margin
        ),
        keep_firing_for_seconds=_seconds(
            part, "keepFiringForSeconds", defaults.keep_firing_for_seconds
        ),
    )
    _check_margin(part, alerting, thresholds)
    return alerting


def _seconds(part: Part, name: str, default: int) -> int:
    return part.integer(name, low=0, high=86400, default=default)


def _check_margin(part: Part, alerting: Alerting, thresholds: Thresholds) -> None:
    """Refuse a margin that no value could ever get below."""
    for name, level, threshold in (
        ("cpu", alerting.cpu, thresholds.cpu),
        ("memory", alerting.memory, thresholds.memory),
        ("disk", alerting.disk, thresholds.disk),
    ):
        lowest = alerts_from(level, threshold)
        if lowest is not None and alerting.clear_margin >= lowest:
            raise part.invalid(
                "clearMargin",
                f"must be smaller than the {name} threshold that alerts: "
                f"{alerting.clear_margin:g} is not smaller than {lowest:g}; "
                "what is not set takes the operator's default",
            )


def _excluded(part: Part) -> tuple[str, ...]:
    globs = []
    for path, glob in part.texts("exclude", most=32, longest=256):
        if not _GLOB.fullmatch(glob):
            raise InvalidFieldError(
                path,
                "must be a glob that starts with / or *, without control characters",
            )
        globs.append(glob)
    return tuple(globs)
