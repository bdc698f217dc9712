"""Flags that name files and folders: `~` is expanded, a URL refused."""

from typing import Any

from absl import flags

from mjx_crossq import paths

# The flags belong to the module that calls `define`, in --help too.
flags.disclaim_key_flags()


class _Path(flags.ArgumentParser):
  syntactic_help = 'a path'

  def parse(self, argument: str) -> str:
    return paths.local(argument)


class _Paths(flags.ListParser):
  def parse(self, argument: Any) -> list[str]:
    return [paths.local(path) for path in super().parse(argument)]


def define(name: str, default: str | None, doc: str) -> Any:
  """`flags.DEFINE_string` of a path."""
  return flags.DEFINE(_Path(), name, default, doc)


def define_list(name: str, default: list[str], doc: str) -> Any:
  """`flags.DEFINE_list` of paths."""
  serializer = flags.CsvListSerializer(',')
  return flags.DEFINE(_Paths(), name, default, doc, serializer=serializer)
