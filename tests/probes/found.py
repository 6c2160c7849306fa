"""usage: found.py PORT OTHER

What a package of a stranger would do while it is installed, and a service that was taken over: a service on PORT is
one that it may reach, one on OTHER is none of its business. Prints a word for each thing that worked.
"""

import os
import socket
import sys

PORT, OTHER = int(sys.argv[1]), int(sys.argv[2])
HOME = os.path.expanduser("~")


def reads(name):
    with open(os.path.join(HOME, name)) as file:
        return "secret" in file.read()


def connects(port):
    socket.create_connection(("127.0.0.1", port), 2)
    return True


def sends_fast():
    """TCP fast open: connects by sending."""
    socket.socket().sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", OTHER))
    return True


def multipath():
    ipproto_mptcp = 262
    socket.socket(socket.AF_INET, socket.SOCK_STREAM, ipproto_mptcp).connect(("127.0.0.1", OTHER))
    return True


def datagram():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", OTHER))
    return True


def binds():
    socket.socket().bind(("127.0.0.1", 0))
    return True


def unix():
    socket.socket(socket.AF_UNIX)
    return True


def writes(path):
    with open(path, "w"):
        return True


def setuid():
    path = os.path.join(os.environ.get("PROJECT", "."), "planted")
    writes(path)
    os.chmod(path, 0o4755)
    return True


ACTS = {
    "netrc": lambda: reads(".netrc"),
    "npmrc": lambda: reads(".npmrc"),
    "ssh": lambda: reads(".ssh/id"),
    "cargo": lambda: reads(".cargo/credentials.toml"),
    "variable": lambda: "secret" in os.environ["API_TOKEN"],
    "port": lambda: connects(PORT),
    "other": lambda: connects(OTHER),
    "fast-open": sends_fast,
    "mptcp": multipath,
    "udp": datagram,
    "bind": binds,
    "unix": unix,
    "hook": lambda: writes(os.path.join(os.environ["PROJECT"], ".git/hooks/post-checkout")),
    "setuid": setuid,
}

worked = []
for name, act in ACTS.items():
    try:
        if act():
            worked.append(name)
    except (OSError, KeyError, AttributeError):
        pass
print(" ".join(worked))
