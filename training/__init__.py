"""The code of the SageMaker training job. It reads the data, fine-tunes the model, exports it and judges it.

The same code runs on a GPU (bfloat16) and on a laptop's CPU (float32). Only `device.py` tells them apart.
"""
