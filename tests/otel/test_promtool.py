"""Prometheus' own tool takes the alert rules, their tests and the configuration."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.parametrize(
    "words", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml"), ("check", "config", "prometheus.yml")]
)
def test_prometheus_takes_rules_and_configuration(words: tuple[str, ...], run: Callable[..., Any]) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "there is no promtool on the PATH: .ci/run says where it comes from"
    ran = run([promtool, *words], cwd=DEPLOY)
    assert ran.returncode == 0, ran
