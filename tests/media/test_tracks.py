"""Which tracks go along, and what is said and refused before work starts."""

import pytest

from uprnet.errors import InvalidInputError, MediaError
from uprnet.media.timeline import Timing
from uprnet.media.tracks import TrackPlan, plan_tracks

DOUBLE = Timing.choose()


def kinds(plan):
    return [(track.kind, track.codec) for track in plan.tracks]


def test_all_tracks_of_a_film(film):
    plan = plan_tracks(film, ".mkv", DOUBLE)
    assert kinds(plan) == [
        ("audio", "aac"), ("audio", "flac"), ("subtitle", "subrip"), ("subtitle", "subrip"),
        ("attachment", "application/x-truetype-font"), ("cover", "png"),
    ]  # fmt: skip
    assert (plan.source, plan.video, plan.slow, plan.warnings) == (film, 0, 1, ())


def test_what_fits_is_kept_and_the_rest_is_said(film, caplog):
    plan = plan_tracks(film, ".webm", DOUBLE, policy="fitting")
    assert kinds(plan) == []
    assert "track 1 (aac sound) is left out: .webm cannot hold it" in plan.warnings
    assert "track 6 (png cover) is left out: .webm cannot hold it" in plan.warnings
    assert len(plan.warnings) == 6
    assert all(text in caplog.text for text in plan.warnings)


def test_nothing_is_lost_silently_in_mp4(film):
    plan = plan_tracks(film, ".MP4", DOUBLE, policy="fitting")
    assert kinds(plan) == [("audio", "aac"), ("audio", "flac"), ("cover", "png")]
    assert len(plan.tracks) + len(plan.warnings) == 6


def test_none_takes_no_track_and_says_so(film):
    plan = plan_tracks(film, ".webm", DOUBLE, policy="none")
    assert plan.tracks == ()
    assert [text.endswith("as asked for") for text in plan.warnings] == [True] * 4


def test_only_containers_that_hold_everything_are_advised(film):
    with pytest.raises(MediaError) as error:
        plan_tracks(film, ".webm", DOUBLE)
    assert "the flac sound (track 2)" in str(error.value)
    assert "; .mkv can; or leave out what does not fit with --tracks fitting" in str(error.value)
    assert "\n" not in str(error.value)


def test_advice_names_every_container_that_would_do(make_clip):
    with pytest.raises(MediaError) as error:
        plan_tracks(make_clip("s.mp4", audio="aac"), ".webm", DOUBLE)
    assert str(error.value) == (
        ".webm cannot hold the aac sound (track 1) of s.mp4; .m4v, .mkv, .mov, .mp4 can; "
        "or leave out what does not fit with --tracks fitting"
    )


@pytest.mark.parametrize(
    ("audio", "name", "ending", "encoder"),
    [
        ("aac", "s.mp4", ".mp4", "aac"),
        ("aac", "s.mp4", ".webm", "libopus"),
        ("pcm_s16le", "s.mov", ".mov", "pcm_s16le"),
        ("pcm_s16le", "s.mov", ".mkv", "pcm_s16le"),
        ("flac", "s.mkv", ".mov", "alac"),
        ("libopus", "s.mkv", ".mov", "aac"),
        ("libmp3lame", "s.mkv", ".mp4", "libmp3lame"),
    ],
)
def test_slowed_sound_keeps_its_codec_where_it_can(make_clip, audio, name, ending, encoder):
    plan = plan_tracks(make_clip(name, audio=audio), ending, Timing.choose(slow=2), slow_audio=True)
    assert [track.encoder for track in plan.tracks] == [encoder]


@pytest.mark.parametrize("options", [{"slow_audio": True}, {"policy": "some"}])
def test_bad_requests(film, options):
    with pytest.raises(InvalidInputError) as error:
        plan_tracks(film, ".mkv", DOUBLE, **options)
    assert "\n" not in str(error.value)


def test_source_without_video(make_sound):
    with pytest.raises(MediaError, match="no video track"):
        plan_tracks(make_sound("s.mka"), ".mkv", DOUBLE)


def test_nothing_at_all():
    assert TrackPlan().tracks == ()
