from __future__ import annotations

import pytest
from conftest import python

CODE = """
import numpy as np, tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
half = tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(cpu, [half, half])
from keras_resnet import data
splits = data.load("digits", batch_size=64, augment=data.Augment(flip=True, mixup=0.2))
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for part in (splits.train, splits.val, splits.test):
    sizes = [
        [len(labels) for labels in strategy.experimental_local_results(batch)]
        for _, batch in strategy.experimental_distribute_dataset(part)
    ]
    print(np.sum(sizes), np.min(sizes) > 0)
"""


@pytest.mark.slow
def test_a_strategy_deals_batches_to_its_replicas():
    lines = python(CODE).splitlines()
    assert lines[-3:] == ["1293 True", "144 True", "360 True"]
