"""A visitor's own camera and microphone as one more upload. What is here runs in the browser.

A browser gives a page these only at an address of its own machine, or over HTTPS, and after it has asked.
"""

from __future__ import annotations

RECORDED_S = 4.0
"""Length of a recording [s]: what a clip has room for."""

_PICTURE = """
    const shown = document.createElement("video");
    shown.muted = true;
    shown.srcObject = stream;
    await shown.play();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [shown.videoWidth, shown.videoHeight];
    canvas.getContext("2d").drawImage(shown, 0, 0);
    const made = await new Promise(done => canvas.toBlob(done, "image/jpeg", 0.92));
    return new File([made], "camera.jpg", {type: "image/jpeg"});
"""
_RECORDING = """
    const recorder = new MediaRecorder(stream, {mimeType: "video/webm"}), parts = [];
    recorder.ondataavailable = event => parts.push(event.data);
    const ended = new Promise(done => { recorder.onstop = done; });
    recorder.start();
    await new Promise(done => setTimeout(done, %MILLISECONDS%));
    recorder.stop();
    await ended;
    return new File(parts, "recording.webm", {type: "video/webm"});
""".replace("%MILLISECONDS%", f"{1000 * RECORDED_S:.0f}")
# Whoever says no, or has no camera, is told in the page's own words; the light of the camera goes out.
_TAKE = """
async () => {
  let stream;
  const make = async () => {%MAKE%};
  try {
    if (!navigator.mediaDevices) throw new Error("a browser allows this at localhost or over HTTPS alone");
    stream = await navigator.mediaDevices.getUserMedia(%WANTED%);
    const file = await make();
    getElement(%UPLOADER%).$refs.qRef.addFiles([file]);
  } catch (error) {
    emit(`${error.message || error.name}`);
  } finally {
    stream?.getTracks().forEach(track => track.stop());
  }
}
"""


def take_picture(uploader: int) -> str:
    """JavaScript that takes a picture and uploads it; what goes wrong is emitted.

    Args:
        uploader: the element that uploads.
    """
    return _script(_PICTURE, "{video: {facingMode: 'environment'}}", uploader)


def record(uploader: int) -> str:
    """JavaScript that records sight and sound and uploads them; what goes wrong is emitted.

    Args:
        uploader: the element that uploads.
    """
    return _script(_RECORDING, "{video: {facingMode: 'environment'}, audio: true}", uploader)


def _script(make: str, wanted: str, uploader: int) -> str:
    return _TAKE.replace("%MAKE%", make).replace("%WANTED%", wanted).replace("%UPLOADER%", str(uploader))
