"""The jobs of a sweep as files for SkyPilot and Kubernetes.

Nothing is started here: the user runs `sky jobs launch FILE` or `kubectl apply
-f FILE`.
"""

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mjx_crossq.atomic import replace_text
from mjx_crossq.config import ConfigError, one_of
from mjx_crossq.launch import cli
from mjx_crossq.launch.jobs.jobs import Job

_MOUNT = '/sweep'
_SECONDS_TO_SAVE = 120
_OPTIONS = {
  'storage': None,
  'accelerators': 'H100:1',
  'use_spot': True,
  'infra': None,
  'setup': "pip install '.[cuda]'",
  'image': None,
  'claim': None,
  'gpus': 1,
}


def write(
  found: Sequence[Job],
  output: Path,
  options: Mapping[str, Any],
  retries: int = 2,
) -> list[str]:
  """Writes a SkyPilot task, a Kubernetes Job, or both for each job.

  Args:
    found: the jobs.
    output: folder of the files.
    options: for SkyPilot `storage` (the URI of the bucket that keeps the runs),
      `accelerators`, `use_spot`, `infra` and `setup` (the command that installs
      the package from a copy of the current folder); for Kubernetes `image`,
      `claim` (a persistent volume claim that keeps the runs) and `gpus`.
    retries: how often Kubernetes starts a failed Job again.

  Returns:
    Lines for the user: what was written, and the command that starts it.

  Raises:
    ConfigError: an option is wrong or missing.
    WriteError: a file cannot be written.
  """
  for name in options:
    one_of('option of skypilot', name, _OPTIONS)
  options = {**_OPTIONS, **options}
  if not options['storage'] and not options['claim']:
    raise ConfigError(
      '--backend=skypilot needs --option=storage=URI of the bucket that keeps '
      'the runs, or image and claim for Kubernetes'
    )
  if bool(options['image']) != bool(options['claim']):
    raise ConfigError(
      'Kubernetes needs both --option=image= (with the package) and '
      '--option=claim= (the persistent volume claim with the runs)'
    )
  kinds: list[tuple[str, Any, str]] = []
  if options['storage']:
    kinds.append(('sky', sky_task, 'sky jobs launch -y'))
  if options['claim']:
    kinds.append(('kubernetes', kubernetes_job, 'kubectl apply -f'))
  lines = []
  for kind, make, command in kinds:
    for job in found:
      path = output / kind / f'{short_name(job)}.yaml'
      record = make(job, options)
      if kind == 'kubernetes':
        record['spec']['backoffLimit'] = retries
      replace_text(path, yaml.safe_dump(record, sort_keys=False))
    lines.append(
      f'wrote {len(found)} files in {output / kind}; start each with: '
      f'{command} FILE'
    )
  return lines


def short_name(job: Job) -> str:
  """A job's name in at most 53 letters, digits and hyphens, as clusters ask."""
  plain = re.sub('[^a-z0-9]+', '-', job.name.lower()).strip('-')
  digest = hashlib.sha256(job.name.encode()).hexdigest()[:8]
  return f'{plain[:44].strip("-")}-{digest}'


def _command(job: Job) -> list[str]:
  there = Job(job.config, Path(_MOUNT), job.name, job.extra)
  return there.command('python')


def sky_task(job: Job, options: Mapping[str, Any]) -> dict[str, Any]:
  """A SkyPilot task; SkyPilot recovers it when a spot instance is preempted.

  Args:
    job: the job.
    options: as for `write`, all of them.
  """
  resources = {
    'accelerators': options['accelerators'],
    'use_spot': bool(options['use_spot']),
  }
  if options['infra']:
    resources['infra'] = options['infra']
  return {
    'name': short_name(job),
    'workdir': '.',
    'num_nodes': 1,
    'resources': resources,
    'file_mounts': {_MOUNT: {'source': options['storage'], 'mode': 'MOUNT'}},
    'setup': options['setup'],
    'run': shlex.join(_command(job)),
  }


def kubernetes_job(job: Job, options: Mapping[str, Any]) -> dict[str, Any]:
  """A Kubernetes Job; it is started again unless its input is wrong.

  Args:
    job: the job.
    options: as for `write`, all of them.
  """
  container = {
    'name': 'train',
    'image': options['image'],
    'command': _command(job),
    'volumeMounts': [{'name': 'sweep', 'mountPath': _MOUNT}],
  }
  if options['gpus']:
    container['resources'] = {'limits': {'nvidia.com/gpu': options['gpus']}}
  return {
    'apiVersion': 'batch/v1',
    'kind': 'Job',
    'metadata': {
      'name': short_name(job),
      'labels': {'app.kubernetes.io/name': 'mjx-crossq'},
    },
    'spec': {
      'backoffLimit': 2,
      'podFailurePolicy': {
        'rules': [
          {
            'action': 'FailJob',
            'onExitCodes': {'operator': 'In', 'values': [cli.USAGE_ERROR]},
          }
        ]
      },
      'template': {
        'spec': {
          'restartPolicy': 'Never',
          'terminationGracePeriodSeconds': _SECONDS_TO_SAVE,
          'containers': [container],
          'volumes': [
            {
              'name': 'sweep',
              'persistentVolumeClaim': {'claimName': options['claim']},
            }
          ],
        }
      },
    },
  }
