"""Physics by MuJoCo Warp."""
