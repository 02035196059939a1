"""What a change may cost, by the words of the person."""

from __future__ import annotations

import pytest

from safe_install.models import Action, Step
from safe_install.pipeline.change import _is_other_build_asked_for
from safe_install.resolve.command_line import split_words
from safe_install.resolve.request import parse_install
from tests.factories import make_environment

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
ROWS = [
    (["torch==2.13.0+cpu"], {}, "2.13.0+cpu", True),
    (["--accelerator", "cpu", "torch"], {}, "2.13.0+cpu", True),
    (["--accelerator", "rocm6.4", "torch"], {}, "2.13.0+rocm6.4", True),
    # what a dry run permits is not rolled back
    (["-U", "torch", "--extra-index-url", CPU_INDEX], {}, "2.13.0+cpu", True),
    (["-U", "torch"], {"extra-index-url": CPU_INDEX}, "2.13.0+cpu", False),
    (["-U", "torch"], {}, "2.13.0+cpu", False),
    (["-r", "r.txt"], {}, "2.13.0+cpu", True),
    (["--accelerator", "cu126", "torch"], {}, "2.13.0+cu126", False),
    (["torch"], {}, "2.13.0", False),
]


@pytest.mark.parametrize(("words", "configuration", "version", "is_asked_for"), ROWS)
def test_the_loss_of_cuda_has_to_be_asked_for(words, configuration, version, is_asked_for):
    request = parse_install(
        split_words(words),
        environ={},
        configuration=configuration,
        read=lambda _: "torch==2.13.0+cpu\n",
    )
    step = Step(Action.REPLACE, "torch", version)
    here = make_environment(torch="2.12.1+cu130")
    assert _is_other_build_asked_for(request, here, step) is is_asked_for
