"""Frames and time: images, videos and exact timelines. Knows nothing of networks."""
