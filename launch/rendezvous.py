"""Where the processes of a distributed run meet; started by `launch.hosts`.

It holds jax's coordination client (and in process 0 its service) in a process
of its own: jax's client ends its process when another one is lost, and the run
must save first; and the run's own JAX stays that of one host, which knows its
local devices alone.

A request is a line of JSON on stdin, its answer one on stdout. Without being
asked it says `{"failed": ...}` when another process has failed. When stdin ends
it says so to the others, because its own run has ended.
"""

import json
import os
import signal
import sys
import threading
import time
from typing import Any

_FAILED = 'failed'
_POLL_MS = 10_000
_LINGER = 2.0  # seconds in which the others hear of a failure of process 0


def main() -> None:
  """Joins, then serves requests until stdin ends."""
  # A scheduler signals every process; this one goes when its run has gone.
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
  wanted = json.loads(sys.stdin.readline())
  os.environ['JAX_ENABLE_PREEMPTION_SERVICE'] = 'false'
  import jax
  from jax._src import distributed  # its client has no public name

  try:
    jax.distributed.initialize(**wanted)
  except Exception as error:
    _say({'refused': ' '.join(str(error).split())})
    return
  state: Any = distributed.global_state
  _say(
    {
      'process': state.process_id,
      'count': state.num_processes,
      'devices': jax.config.read('jax_cuda_visible_devices'),
    }
  )
  client = state.client
  threading.Thread(target=_watch, args=(client,), daemon=True).start()
  # An answer may take days, at the barrier at the end; stdin may end earlier.
  ended = False
  for line in sys.stdin:
    request = json.loads(line)
    ended = request == 'end'
    if ended:
      break
    if 'fail' in request:
      _tell(client, request['fail'])
      continue
    threading.Thread(target=_serve, args=(client, request), daemon=True).start()
  if ended:
    jax.distributed.shutdown()
    _say({'ended': True})
  else:
    _tell(client, f'process {state.process_id} has ended')
    if state.process_id == 0:
      time.sleep(_LINGER)
  sys.stdout.flush()
  os._exit(0)  # past threads that still wait for others


def _serve(client: Any, request: dict[str, Any]) -> None:
  """Answers one request."""
  try:
    if 'set' in request:
      client.key_value_set(request['set'], request['value'])
      _say({'answer': None})
    elif 'get' in request:
      ms = int(1000 * request['seconds'])
      _say({'answer': client.blocking_key_value_get(request['get'], ms)})
    elif 'meet' in request:
      client.wait_at_barrier(request['meet'], int(1000 * request['seconds']))
      _say({'answer': None})
  except Exception as error:
    _say({'error': ' '.join(str(error).split())})


def _tell(client: Any, reason: str) -> None:
  """Tells all processes why they must stop; the first reason stays."""
  try:
    client.key_value_set(_FAILED, reason)
  except Exception:
    return


def _watch(client: Any) -> None:
  """Waits for the failure of any process."""
  while True:
    try:
      reason = client.blocking_key_value_get(_FAILED, _POLL_MS)
    except Exception as error:
      if 'DEADLINE_EXCEEDED' in str(error):
        continue
      reason = 'process 0, or the way to it, is lost'
    _say({'failed': reason})
    return


def _say(record: dict[str, Any]) -> None:
  # One write, so that the threads' lines do not mix.
  os.write(1, (json.dumps(record) + '\n').encode())


if __name__ == '__main__':
  main()
