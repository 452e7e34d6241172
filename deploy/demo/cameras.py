"""Cameras of the network, for want of real ones: each plays a clip again and again, live, over RTSP.

    python3 deploy/demo/cameras.py --port 8554 left=clips/a.mp4 right=clips/b.mp4

They are then at rtsp://HOST:8554/left and so on, with picture and sound; of ``--microphone hall=clips/c.mp4``
there is the sound alone. ``--login user:secret`` lets in nobody else. The server is GStreamer's, and
FFmpeg plays the clips. On Debian:

    sudo apt-get install ffmpeg python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good

Run it with the system's own Python (/usr/bin/python3), which is where Debian puts GStreamer's bindings.
"""

from __future__ import annotations

import argparse
import ctypes
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gi  # type: ignore[import-not-found, import-untyped, unused-ignore]

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: E402

RATE_HZ = 16_000
ROLE = "viewer"
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_PICTURE = (
    "udpsrc address=127.0.0.1 port={picture} "
    'caps="application/x-rtp,media=video,clock-rate=90000,encoding-name=H264" '
    "! rtph264depay ! video/x-h264,stream-format=byte-stream,alignment=au "
    "! rtph264pay name=pay0 pt=96 config-interval=-1 "
)
_SOUND = (
    "udpsrc address=127.0.0.1 port={sound} "
    'caps="application/x-rtp,media=audio,clock-rate={rate},encoding-name=L16,channels=1" '
    "! rtpL16depay ! rtpL16pay name=pay{number} pt=97 "
)


@dataclass(frozen=True)
class Camera:
    """What is played.

    Attributes:
        name: it is called, in its address.
        clip: that is played.
        sees: whether there is its picture, too; else it is a microphone.
    """

    name: str
    clip: Path
    sees: bool

    def launch(self, picture: int, sound: int) -> str:
        """What GStreamer is to do with what comes at two ports."""
        seen = _PICTURE.format(picture=picture) if self.sees else ""
        return f"( {seen}{_SOUND.format(sound=sound, rate=RATE_HZ, number=int(self.sees))})"


def play(clip: Path, picture: int, sound: int) -> subprocess.Popen[bytes]:
    """Play a clip without end: its picture to one UDP port of this machine, its sound to another."""
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i", str(clip)]
    # Whoever begins to watch sees something within a second.
    command += ["-map", "0:v", "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "8"]
    command += ["-threads:v", "1", "-bsf:v", "dump_extra", "-f", "rtp", f"rtp://127.0.0.1:{picture}"]
    command += ["-map", "0:a", "-c:a", "pcm_s16be", "-ac", "1", "-ar", str(RATE_HZ)]
    command += ["-f", "rtp", f"rtp://127.0.0.1:{sound}"]
    return subprocess.Popen(  # noqa: S603 - the arguments are ours
        command, stdout=subprocess.DEVNULL, preexec_fn=_die_with_parent
    )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """UDP ports of this machine that nobody has, each with the one above it for RTCP."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1] & ~1
        if port not in found:
            found.append(port)
    return found


def serve(cameras: Sequence[Camera], host: str, port: int, login: str | None) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        cameras: at least one.
        host: address to listen at.
        port: likewise.
        login: ``user:secret`` of who may watch; None: anybody.
    """
    Gst.init(None)
    server = GstRtspServer.RTSPServer(address=host, service=str(port))
    if login is not None:
        user, _, secret = login.partition(":")
        auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", ROLE)
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, secret), token)
        server.set_auth(auth)
    playing = []
    ports = iter(free_ports(2 * len(cameras)))
    for camera in cameras:
        picture, sound = next(ports), next(ports)
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(camera.launch(picture, sound))
        factory.set_shared(True)
        factory.set_protocols(GstRtsp.RTSPLowerTrans.TCP)
        if login is not None:
            allowed = GstRtspServer.RTSPPermissions()
            allowed.add_permission_for_role(ROLE, "media.factory.access", True)
            allowed.add_permission_for_role(ROLE, "media.factory.construct", True)
            factory.set_permissions(allowed)
        server.get_mount_points().add_factory(f"/{camera.name}", factory)
        playing.append(play(camera.clip, picture, sound))
    if not server.attach(None):
        sys.exit(f"{host}:{port} is taken")
    loop = GLib.MainLoop()
    for number in (signal.SIGTERM, signal.SIGINT):
        GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, number, loop.quit)
    print(f"rtsp://{host}:{port}/" + ", /".join(camera.name for camera in cameras), flush=True)
    loop.run()
    for each in playing:
        each.kill()
        each.wait()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Play clips as cameras of the network.")
    parser.add_argument("cameras", nargs="+", metavar="NAME=CLIP")
    parser.add_argument("--microphone", action="append", default=[], metavar="NAME=CLIP")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8554)
    parser.add_argument("--login", metavar="USER:SECRET", help="of who may watch; else anybody may")
    arguments = parser.parse_args()
    cameras = []
    for text in (*arguments.cameras, *arguments.microphone):
        name, _, clip = text.partition("=")
        if not name or not Path(clip).is_file():
            parser.error(f"{text!r}: NAME=CLIP is needed, with a clip that is there")
        cameras.append(Camera(name, Path(clip), text in arguments.cameras))
    serve(cameras, arguments.host, arguments.port, arguments.login)


if __name__ == "__main__":
    main()
