"""Tests of data prep's Lambda functions."""
