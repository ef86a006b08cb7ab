"""What the SageMaker training job runs: read, fine-tune, export, judge.

The same code runs on a GPU (bfloat16) and on a laptop's CPU (float32); `device.py` is the one place that tells them
apart.
"""
