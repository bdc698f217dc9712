"""Planar manipulator with boxes; mirrors `dm_control.suite.stacker`."""

import jax
import jax.numpy as jp
from typing_extensions import override

from mjx_crossq.envs import manipulation, rewards, suite, target


def make(task: str) -> 'Stack':
  """Builds 'stack_2' or 'stack_4'."""
  return Stack(task)


class Stack(manipulation.Arm, target.TargetEnv):
  """Stack boxes up to the target's height, and let go."""

  target_field = 'body_pos'
  target_axes = (0, 2)

  warp_unfaithful = (
    "Warp finds fewer contacts than C in a third of the touching boxes' pairs: "
    '1 % of velocities are off by more than 1 after 25 physics steps'
  )

  def __init__(self, task: str):
    """Builds the task.

    Args:
      task: stock's name.
    """
    self._count = int(task.removeprefix('stack_'))
    self._boxes = [f'box{i}' for i in range(self._count)]
    super().__init__('stacker', task)

  @override
  def stock_xml(self):
    return suite.import_stock('stacker').make_model(n_boxes=self._count)

  @override
  def initial(self, rng):
    return self._without_contact(rng, lambda rng, _: self._draw(rng))

  def _draw(self, rng: jax.Array) -> suite.Initial:
    """Draws one candidate for the initial state."""
    arm_rng, height_rng, target_rng, box_rng = jax.random.split(rng, 4)
    qpos = self._random_arm(
      arm_rng, jp.asarray(self.mj_model.qpos0, jp.float32)
    )
    level = 2 * jax.random.randint(height_rng, (), 0, self._count) + 1
    x = jax.random.uniform(target_rng, minval=-0.37, maxval=0.37)
    low, high = jp.array([0.1, 0.0, 0.0]), jp.array([0.3, 0.7, 2 * jp.pi])
    boxes = jax.random.uniform(
      box_rng, (self._count, 3), minval=low, maxval=high
    )
    joints = [f'{box}_{axis}' for box in self._boxes for axis in 'xzy']
    return suite.Initial(
      qpos.at[self._qpos_at(*joints)].set(boxes.ravel()),
      params={'target': jp.stack([x, self._box_size() * level])},
    )

  def _box_size(self) -> float:
    """Half a box's edge, metres."""
    return float(self.mj_model.geom('target').size[0])

  @override
  def observe(self, data):
    joints = [f'{box}_{axis}' for box in self._boxes for axis in 'xyz']
    return self._observe_arm(data) | {
      'hand_pos': self._pose(data, 'hand'),
      'box_pos': self._pose(data, *self._boxes),
      'box_vel': data.qvel[self._qvel_at(*joints)],
      'target_pos': self._pose(data, 'target')[:, :2],
    }

  @override
  def reward(self, data):
    distances = [self._site_distance(data, b, 'target') for b in self._boxes]
    box_is_close = rewards.tolerance(
      jp.min(jp.stack(distances)), margin=2 * self._box_size()
    )
    hand_is_far = rewards.tolerance(
      self._site_distance(data, 'grasp', 'target'),
      bounds=(0.1, float('inf')),
      margin=manipulation.CLOSE,
    )
    return box_is_close * hand_is_far
