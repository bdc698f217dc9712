"""Measurements that several tests share, each made once per process."""

import functools
from typing import Any

import envs
from envs import parity, suite


@functools.cache
def env(task: str) -> suite.SuiteEnv:
  result = envs.load(task)
  assert isinstance(result, suite.SuiteEnv)
  return result


@functools.cache
def records(task: str) -> parity.Records:
  return parity.collect(env(task))


@functools.cache
def states(task: str) -> Any:
  return parity.start(env(task), records(task))
