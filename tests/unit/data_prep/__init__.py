"""Tests of the data-prep Lambda."""
