"""Make the reference checkpoints and outputs of Haruspex's and Emap2sec's networks.

    python -m venv tf && tf/bin/pip install tensorflow-cpu==2.21.0
    tf/bin/python tests/reference/tensorflow_checkpoints.py tests/reference/tensorflow

The graphs are built from the published descriptions with TensorFlow's own layers under the names
that the originals' checkpoints have; weights repeat a short table, so that the checkpoints, as
.tar.xz, are small. Inputs and outputs are beside them in one npz.
"""

import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
v1.disable_eager_execution()


TABLE = np.random.default_rng(1).uniform(-1, 1, 4099).astype(np.float32)


def variable(name, shape, scale):
    values = np.resize(TABLE, np.prod(shape)).reshape(shape) * np.float32(scale)
    return v1.get_variable(name, initializer=values)


def haruspex(x):
    count = {"conv3d": 0, "conv3d_transpose": 0}

    def name_of(kind):
        name = f"{kind}_{count[kind]}" if count[kind] else kind
        count[kind] += 1
        return name

    def conv(x, a, b, padding="VALID", relu=True):
        name = name_of("conv3d")
        kernel = variable(f"{name}/kernel", (3, 3, 3, a, b), 2.4 / np.sqrt(27 * a))
        bias = variable(f"{name}/bias", (b,), 0.1)
        y = tf.nn.conv3d(x, kernel, [1] * 5, padding) + bias
        return tf.nn.relu(y) if relu else y

    def up(x, width, edge):
        name = name_of("conv3d_transpose")
        kernel = variable(f"{name}/kernel", (2, 2, 2, width, width), 2.4 / np.sqrt(width))
        shape = [1, edge, edge, edge, width]
        return tf.nn.relu(tf.nn.conv3d_transpose(x, kernel, shape, [1, 2, 2, 2, 1], "VALID"))

    def pool(x):
        return tf.nn.max_pool3d(x, [1, 2, 2, 2, 1], [1, 2, 2, 2, 1], "VALID")

    fine = conv(conv(x, 1, 32), 32, 64)
    coarse = conv(pool(fine), 64, 128)
    x = conv(pool(coarse), 128, 256, "SAME")
    x = tf.concat([coarse, up(x, 256, 16)], -1)
    x = conv(conv(x, 384, 256), 256, 128)
    x = tf.concat([fine[:, 6:-6, 6:-6, 6:-6], up(x, 128, 24)], -1)
    return conv(conv(x, 192, 128), 128, 4, relu=False)


def phase_one(x):
    widths = (1, 32, 64, 64, 128, 128)
    for k in range(5):
        edge = 4 if k == 0 else 3
        shape = (edge, edge, edge, widths[k], widths[k + 1])
        kernel = variable(f"W_conv{k + 1}", shape, 2.4 / np.sqrt(edge**3 * widths[k]))
        bias = variable(f"b_conv{k + 1}", (widths[k + 1],), 0.1)
        x = tf.nn.relu(tf.nn.conv3d(x, kernel, [1] * 5, "SAME") + bias)
    x = tf.nn.max_pool3d(x, [1, 2, 2, 2, 1], [1, 2, 2, 2, 1], "SAME")
    x = tf.reshape(x, [-1, 6 * 6 * 6 * 128])
    for name, a, b in (("fc1", 27648, 1024), ("fc2", 1024, 256), ("fc5", 256, 3)):
        y = tf.matmul(x, variable(f"W_{name}", (a, b), 2.4 / np.sqrt(a)))
        y = y + variable(f"b_{name}", (b,), 0.1)
        x = y if name == "fc5" else tf.nn.relu(y)
    return x


def phase_two(x):
    widths = (108, 1024, 1024, 1024, 1024, 256, 4)
    for k in range(6):
        weight = variable(f"W_fc2{k + 1}", widths[k : k + 2], 2.4 / np.sqrt(widths[k]))
        y = tf.matmul(x, weight) + variable(f"b_fc2{k + 1}", (widths[k + 1],), 0.1)
        x = y if k == 5 else tf.nn.relu(y)
    return x


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    stored = {}
    for name, build, shape in (
        ("haruspex", haruspex, (1, 40, 40, 40, 1)),
        ("emap2sec_one", phase_one, (3, 11, 11, 11, 1)),
        ("emap2sec_two", phase_two, (5, 108)),
    ):
        # Few digits compress well.
        values = (rng.integers(0, 100, shape) / 100).astype(np.float32)
        with tf.Graph().as_default(), v1.Session() as session, tempfile.TemporaryDirectory() as tmp:
            x = v1.placeholder(tf.float32, shape)
            logits = build(x)
            v1.get_variable("global_step", initializer=np.int64(40000), trainable=False)
            session.run(v1.global_variables_initializer())
            stored[f"{name}_x"] = (values * 100).round().astype(np.uint8)
            stored[f"{name}_logits"] = session.run(logits, {x: values})
            stem = Path(tmp) / "model.ckpt-40000"
            v1.train.Saver().save(session, str(stem), write_meta_graph=False)
            with tarfile.open(folder / f"{name}.tar.xz", "w:xz", preset=9) as archive:
                for path in sorted(Path(tmp).glob("model.ckpt-40000.*")):
                    archive.add(path, path.name)
    np.savez_compressed(folder / "outputs.npz", **stored)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
