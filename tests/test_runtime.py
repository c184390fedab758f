from __future__ import annotations

import os
import signal
import warnings

import pytest
from conftest import python

from keras_resnet import runtime
from keras_resnet.errors import UserError

BUILD = "import keras_resnet; keras_resnet.build('cifar_resnet20');"


def test_a_container_s_quota_limits_the_cores(tmp_path):
    mine = runtime.usable_cores(tmp_path)  # no quota
    assert 1 <= mine <= os.cpu_count()
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert runtime.usable_cores(tmp_path) == mine
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert runtime.usable_cores(tmp_path) == 1
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert runtime.usable_cores(tmp_path) == 1


def test_the_library_warns_once_where_onednn_is_off():
    code = (
        "import warnings; warnings.simplefilter('always');"
        "from unittest.mock import patch;"
        "caught = patch('warnings.warn').start();" + BUILD * 2 + "print([str(call.args)"
        " for call in caught.call_args_list if 'SlowKernels' in str(call.args)])"
    )
    said = python(code, TF_ENABLE_ONEDNN_OPTS="0")
    assert said.count("TF_ENABLE_ONEDNN_OPTS=1 in the environment before") == 1
    assert python(code, TF_ENABLE_ONEDNN_OPTS="1") == "[]"


def test_the_warning_can_be_silenced():
    code = (
        "import warnings; warnings.simplefilter('error');"
        "warnings.filterwarnings('ignore', category=DeprecationWarning);"
        "from keras_resnet.runtime import SlowKernels;"
        "warnings.simplefilter('ignore', SlowKernels);" + BUILD + "print('built')"
    )
    assert python(code, TF_ENABLE_ONEDNN_OPTS="0") == "built"


def test_importing_the_library_leaves_the_environment_alone():
    code = "import os, keras_resnet; print('TF_ENABLE_ONEDNN_OPTS' in os.environ)"
    assert python(code, TF_ENABLE_ONEDNN_OPTS=None) == "False"


def test_xla_is_not_chosen_on_cpu(tiny_spec):
    from keras_resnet import build
    from keras_resnet.training import get_recipe

    if runtime.has_gpu():
        pytest.skip("a GPU is here")
    model = build(tiny_spec)
    model.compile(**get_recipe("digits").compile_args(model, steps=1))
    assert model.jit_compile is False


def test_too_many_threads_are_named(monkeypatch):
    monkeypatch.setattr(runtime, "usable_cores", lambda: 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    assert any("64 threads on 1 usable" in remedy for remedy in runtime.remedies())
    assert runtime.describe()["threads"] == 64
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runtime.warn_once.__wrapped__()
    assert {each.category for each in caught} == {runtime.SlowKernels}


def test_another_backend_of_keras_is_refused(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(UserError, match=r"KERAS_BACKEND: 'jax', but .*=tensorflow"):
        runtime.prepare()


def test_ctrl_c_waits_for_what_is_being_loaded():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    raising = pytest.raises(KeyboardInterrupt)
    try:
        with raising, runtime._ctrl_c_waits():
            signal.raise_signal(signal.SIGINT)  # and not here
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("sets", "advised"),
    [(["avx2", "avx512_bf16"], "avx512_bf16"), (["avx512f"], None)],
)
def test_bfloat16_is_advised_where_the_processor_has_it(monkeypatch, sets, advised):
    monkeypatch.setattr(runtime, "processor", lambda: ("a processor", sets))
    told = runtime.bfloat16_advice()
    assert (advised in told) if advised else (told is None)
