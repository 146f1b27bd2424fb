"""Windows per CPU-second of Emap2sec's first phase in TensorFlow, each window once, float32.

PYTHON benchmarks/tensorflow_phase_one.py    # PYTHON has tensorflow; cryonb is not needed
"""

import os
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf  # the variable above must be set before

# (edge of the kernel, channels in, channels out)
LAYERS = [(4, 1, 32), (3, 32, 64), (3, 64, 64), (3, 64, 128), (3, 128, 128)]
KERNELS = [0.05 * tf.random.normal((e, e, e, a, b)) for e, a, b in LAYERS]
DENSE = [0.01 * tf.random.normal(shape) for shape in ((27648, 1024), (1024, 256), (256, 3))]


@tf.function
def phase_one(x):
    """Run a batch of windows, shape (n, 11, 11, 11, 1)."""
    for kernel in KERNELS:
        x = tf.nn.relu(tf.nn.conv3d(x, kernel, [1] * 5, "SAME"))
    x = tf.reshape(tf.nn.max_pool3d(x, 2, 2, "SAME"), (-1, 27648))
    for weight in DENSE[:-1]:
        x = tf.nn.relu(x @ weight)
    return tf.nn.softmax(x @ DENSE[-1])


windows = tf.random.uniform((100, 11, 11, 11, 1))
phase_one(windows).numpy()
begin = time.process_time()
for _ in range(4):
    phase_one(windows).numpy()
rate = 400 / (time.process_time() - begin)
print(f"  TensorFlow {tf.__version__}, each once{rate:9.0f} windows a CPU-second")
