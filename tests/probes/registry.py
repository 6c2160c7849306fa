"""usage: registry.py DIRECTORY PORTS -- COMMAND...

In a network of its own: brings the loopback up, serves the directory by http on these ports (80,443), runs the command
and ends with its exit code. `registry.py --lay DIRECTORY FOUND` fills a directory with one package each for pip, npm
and cargo; what it does when it is installed is in FOUND, a program for Python.
"""

import fcntl
import functools
import hashlib
import http.server
import io
import json
import os
import socket
import struct
import subprocess
import sys
import tarfile
import threading

HOST = "http://127.0.0.1:443"


def archive(top, files):
    """A .tar.gz with these files below one directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(top + "/" + name)
            data = text.encode()
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def put(place, name, data):
    path = os.path.join(place, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode())


# Builds a wheel by hand, after having looked around.
BACKEND = """
import os, subprocess, sys, zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    found = subprocess.run([sys.executable, "found.py", "443", "8081"], capture_output=True, text=True).stdout
    name = "small-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.writestr("small.py", "FOUND = %r\\n" % found)
        wheel.writestr("small-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: small\\nVersion: 1.0\\n")
        wheel.writestr("small-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("small-1.0.dist-info/RECORD", "small.py,,\\nsmall-1.0.dist-info/METADATA,,\\nsmall-1.0.dist-info/WHEEL,,\\nsmall-1.0.dist-info/RECORD,,\\n")
    return name
"""


def lay(place, found):
    """One package, `small`, in three forms."""
    build = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    source = archive("small-1.0", {"pyproject.toml": build, "backend.py": BACKEND, "found.py": found, "PKG-INFO": "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n"})
    put(place, "files/small-1.0.tar.gz", source)
    put(place, "simple/small/index.html", '<a href="/files/small-1.0.tar.gz">small-1.0.tar.gz</a>\n')
    manifest = {"name": "small", "version": "1.0.0", "scripts": {"install": "/usr/bin/python3 found.py 443 8081 > found.txt"}}
    package = archive("package", {"package.json": json.dumps(manifest), "found.py": found, "index.js": "\n"})
    put(place, "files/small-1.0.0.tgz", package)
    shasum = hashlib.sha1(package).hexdigest()
    version = dict(manifest, hasInstallScript=True, dist={"tarball": HOST + "/files/small-1.0.0.tgz", "shasum": shasum})
    put(place, "small", json.dumps({"name": "small", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}))
    toml = '[package]\nname = "small"\nversion = "1.0.0"\nedition = "2021"\n'
    crate = archive("small-1.0.0", {"Cargo.toml": toml, "src/lib.rs": "pub const TWO: u32 = 2;\n"})
    put(place, "crates/small/1.0.0/download", crate)
    put(place, "index/config.json", json.dumps({"dl": HOST + "/crates"}))
    entry = {"name": "small", "vers": "1.0.0", "deps": [], "cksum": hashlib.sha256(crate).hexdigest(), "features": {}, "yanked": False}
    put(place, "index/sm/al/small", json.dumps(entry) + "\n")


def loopback_up():
    siocgifflags, siocsifflags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(control, siocgifflags, request))[1]
        fcntl.ioctl(control, siocsifflags, struct.pack("16sH14x", b"lo", flags | up))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


def main(place, ports, dashes, *command):
    assert dashes == "--", __doc__
    loopback_up()
    handler = functools.partial(Quiet, directory=place)
    for port in ports.split(","):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    return subprocess.run(command).returncode


if __name__ == "__main__":
    if sys.argv[1] == "--lay":
        with open(sys.argv[3]) as file:
            lay(sys.argv[2], file.read())
    else:
        sys.exit(main(*sys.argv[1:]))
