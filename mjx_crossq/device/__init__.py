"""The loop on the device: rollouts, replay and updates for all seeds."""
