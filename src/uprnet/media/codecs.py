"""What has to be known of libav's video encoders: names, options for good quality, what their streams cannot say."""

from __future__ import annotations

from uprnet.media.colour import CENTER, FULL, LEFT, LIMITED, TOP, TOP_LEFT

ENCODERS = {
    "av1": ("libsvtav1", "libaom-av1"),
    "h264": ("libx264",),
    "h265": ("libx265",),
    "hevc": ("libx265",),
    "prores": ("prores_ks",),
    "vp8": ("libvpx",),
    "vp9": ("libvpx-vp9",),
}
"""libav's encoders, best first, for the names that users say; any other name is an encoder of libav."""

# ProRes has a constant quantizer (4; libav counts quality in 1/118 of it): its usual rates leave small pictures at
# 42 dB, and where transparency, stored without loss, takes most of the rate, colours are off by 4 of 255.
# Without mbtree the quality is more even from frame to frame, at about the same size; and x264 (core 165) reads
# memory there that it never wrote, so that the same frames would give another file each time.
OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "16", "preset": "faster", "mbtree": "0"},
    "libx264rgb": {"crf": "16", "preset": "faster", "mbtree": "0"},
    "libx265": {"crf": "16", "preset": "fast", "x265-params": "log-level=none"},
    "libvpx-vp9": {"crf": "18", "b": "0", "row-mt": "1", "deadline": "good", "cpu-used": "3"},
    "libvpx": {"crf": "8", "b": "20M", "deadline": "good", "cpu-used": "3"},
    "libsvtav1": {"crf": "18", "preset": "6"},
    "prores_ks": {"profile": "hq", "vendor": "apl0", "global_quality": str(4 * 118)},
    "ffv1": {"level": "3", "slicecrc": "1", "g": "1"},
}
"""Visually lossless: on four real clips of 480 and 720 rows luma comes back with 41 to 50 dB, chroma with 47 to 54 dB,
at two to eight times the rate of the sources; from ProRes luma with 53 dB."""

MERGED = ("x264-params", "x265-params", "svtav1-params")
"""Options that are lists, joined by colons: what the user gives is added to ours."""

EVEN_ONLY = ("libx264", "libx265", "libsvtav1", "libvpx")
"""Encoders that need an even size where chroma is halved."""

RANGES = {"prores": LIMITED, "prores_ks": LIMITED, "prores_aw": LIMITED, "mjpeg": FULL}
"""The range that decoders take for granted, of encoders whose streams cannot say it."""

LOCATIONS = {
    "ffv1": (LEFT, CENTER, TOP_LEFT, TOP),
    "libaom-av1": (LEFT, TOP_LEFT),
    "libsvtav1": (LEFT, TOP_LEFT),
    "libvpx": (LEFT, TOP_LEFT),
    "libvpx-vp9": (LEFT, TOP_LEFT),
    "mjpeg": (CENTER,),
    "mpeg2video": (LEFT,),
    "mpeg4": (LEFT,),
}
"""Where chroma can lie, of encoders whose streams cannot say every place; the first stands for all others."""

SAYS_ASPECT = ("libx264", "libx264rgb", "libx265")
"""Encoders whose streams say how wide pixels are; PyAV cannot tell it to Matroska."""
