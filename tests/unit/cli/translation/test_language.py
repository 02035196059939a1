"""Which language is spoken, by the variables of a shell."""

from __future__ import annotations

import pytest

from safe_install.cli.translation.language import CHINESE, ENGLISH, choose_language


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({}, ENGLISH),
        ({"LANG": "zh_CN.UTF-8"}, CHINESE),
        ({"LANG": "zh_CN.GB18030"}, CHINESE),
        ({"LANG": "zh_SG"}, CHINESE),
        ({"LANG": "zh_TW.UTF-8"}, ENGLISH),
        ({"LANG": "zh_Hant_HK.UTF-8"}, ENGLISH),
        ({"LANG": "de_DE.UTF-8"}, ENGLISH),
        ({"LC_MESSAGES": "zh_CN.UTF-8", "LANG": "en_US.UTF-8"}, CHINESE),
        ({"LC_MESSAGES": "en_US.UTF-8", "LANG": "zh_CN.UTF-8"}, ENGLISH),
        ({"LC_ALL": "C", "LC_MESSAGES": "zh_CN.UTF-8", "LANG": "zh_CN.UTF-8"}, ENGLISH),
        ({"LC_ALL": "", "LANG": "zh_CN.UTF-8"}, CHINESE),
        ({"LC_CTYPE": "zh_CN.UTF-8", "LANG": "en_US.UTF-8"}, ENGLISH),
        # LANGUAGE is a list, and comes first where there is a locale at all
        ({"LANGUAGE": "zh_CN:en", "LANG": "en_US.UTF-8"}, CHINESE),
        ({"LANGUAGE": "fr:zh_CN:en", "LANG": "en_US.UTF-8"}, CHINESE),
        ({"LANGUAGE": "en_GB:zh_CN", "LC_ALL": "zh_CN.UTF-8"}, ENGLISH),
        ({"LANGUAGE": "zh_CN", "LC_ALL": "C.UTF-8"}, ENGLISH),
        ({"LANGUAGE": "zh_CN"}, ENGLISH),
        ({"LANGUAGE": "zh_TW:zh", "LANG": "zh_TW.UTF-8"}, CHINESE),
        # ours comes before all of them, where it names a language that there is
        ({"SAFE_INSTALL_LANGUAGE": "zh"}, CHINESE),
        ({"SAFE_INSTALL_LANGUAGE": "zh-CN", "LC_ALL": "C"}, CHINESE),
        ({"SAFE_INSTALL_LANGUAGE": "en", "LANG": "zh_CN.UTF-8"}, ENGLISH),
        ({"SAFE_INSTALL_LANGUAGE": "", "LANG": "zh_CN.UTF-8"}, CHINESE),
        ({"SAFE_INSTALL_LANGUAGE": "tlh", "LANG": "zh_CN.UTF-8"}, CHINESE),
    ],
)
def test_the_language_of_a_person(environ, language):
    assert choose_language(environ) == language
