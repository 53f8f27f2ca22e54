"""The command `lidar`: what stands behind each of its commands."""
