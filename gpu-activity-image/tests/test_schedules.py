"""Each schedule goes as it says, and a run killed on the way goes on along it."""

from typing import Any

import pytest
from kills import Kill, run_cell
from test_exactness import cell, require_exact  # noqa: F401

STEPS, RATE, LEAST = 10, 0.004, 0.001

# Rates of some steps, counted from 1; two of them warm up.
CASES: list[tuple[dict[str, Any], dict[int, float]]] = [
    ({"schedule": "cosine", "minLearningRate": LEAST}, {1: 0, 2: RATE / 2, 3: RATE, 7: (RATE + LEAST) / 2}),
    ({"schedule": "polynomial", "minLearningRate": LEAST, "schedulePower": 2}, {3: RATE, 7: LEAST + (RATE - LEAST) / 4}),
    ({"schedule": "inverse_sqrt"}, {2: RATE / 2, 3: RATE, 9: RATE / 2}),
    ({"schedule": "warmup_stable_decay", "minLearningRate": LEAST, "decayRatio": 0.4}, {3: RATE, 7: RATE, 9: (RATE + LEAST) / 2}),
    ({"schedule": "constant"}, {2: RATE / 2, 10: RATE}),
]


@pytest.mark.parametrize(("schedule", "rates"), CASES, ids=[case["schedule"] for case, _ in CASES])
def test_kill_leaves_the_schedule(cell, schedule: dict[str, Any], rates: dict[int, float]):  # noqa: F811
    recipe = {"maxSteps": STEPS, "warmupSteps": 2, "learningRate": RATE, "evalSteps": STEPS} | schedule
    whole = run_cell(cell("whole", **recipe), [])
    kills = [Kill(6, "after optimizer")]
    require_exact(run_cell(cell("killed", **recipe), kills), whole, kills)
    assert {step: whole.steps[step]["learningRate"] for step in rates} == pytest.approx(rates, rel=1e-6)
