"""``hostwatch operator``: the operator itself, told what to do by the environment."""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from typing import TYPE_CHECKING

from hostwatch.cli.ending import (
    EXIT_CRD,
    EXIT_DATABASE,
    EXIT_FAILED,
    EXIT_SETTING,
    fail,
)

if TYPE_CHECKING:
    from hostwatch.settings import Settings

_LONGEST = 1024
_REFUSED = (
    "the operator may not read what it needs of the cluster: grant its ServiceAccount "
    "the rights that the README lists"
)


def operator() -> None:
    """Run the operator; the environment holds its settings (see the README).

    Exit codes: 0 after SIGTERM, 1 when the watch of the resources failed, 2 a bad
    setting, 3 a refused database, 4 a missing CustomResourceDefinition or right.
    """
    from hostwatch.app import InformerEndedError
    from hostwatch.kube.client import ApiRefusedError
    from hostwatch.kube.inventory import ClusterIdError, CrdMissingError
    from hostwatch.kube.login import KubeConfigError
    from hostwatch.kube.text import printable
    from hostwatch.monitor.sweep import WatchStalledError
    from hostwatch.settings import Settings, SettingsError
    from hostwatch.store.errors import DatabaseRefusedError, SchemaError
    from hostwatch.telemetry.http import HttpPortError
    from hostwatch.telemetry.logging import configure

    try:
        settings = Settings.read()
        configure(settings.telemetry)
        asyncio.run(_run(settings))
    except (SettingsError, KubeConfigError, HttpPortError) as error:
        raise fail(str(error), EXIT_SETTING) from None
    except (DatabaseRefusedError, SchemaError) as error:
        raise fail(str(error), EXIT_DATABASE) from None
    except (CrdMissingError, ClusterIdError) as error:
        raise fail(str(error), EXIT_CRD) from None
    except ApiRefusedError as error:
        words = printable(f"{_REFUSED} (the API server says: {error})", _LONGEST)
        raise fail(words, EXIT_CRD) from None
    except (InformerEndedError, WatchStalledError) as error:
        raise fail(f"{error}: start the operator again", EXIT_FAILED) from None


async def _run(settings: Settings) -> None:
    from hostwatch.app import App
    from hostwatch.handlers.informer import watch

    app = App(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, app.stop)
    await app.run(
        partial(
            watch,
            namespaces=settings.kubernetes.namespaces,
            on_signal=app.stop,
        )
    )
