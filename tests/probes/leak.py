"""Starts a look at the open descriptors with one of every kind leaked on purpose, 40 being a socket back to here.

usage: leak.py PALISADE|- POLICY KEEP_FDS ; prints the numbers that are open inside, and what came through 40.
"""
import os, socket, subprocess, sys

INSIDE = """
import os, socket
listed = os.listdir("/proc/self/fd")
# The directory that is listed is one itself, and closed by now.
open_ = sorted(int(fd) for fd in listed if os.path.lexists(f"/proc/self/fd/{fd}"))
print(*open_)
if 40 in open_: socket.socket(fileno=40).sendall(b"kept")
"""
palisade, policy, keep = sys.argv[1:]
ours, theirs = socket.socketpair()
fds = [os.open("/etc/passwd", os.O_RDONLY), os.open("/etc", os.O_RDONLY | os.O_DIRECTORY), os.open("/", os.O_PATH)]
fds += [theirs.fileno(), *os.pipe(), os.memfd_create("leaked", 0)]
os.dup2(theirs.fileno(), 40)
for fd in [*fds, 40]:
    os.set_inheritable(fd, True)
command = ["python3", "-c", INSIDE]
if palisade != "-":
    command = [palisade, "run", "--policy", policy, "--set", f"process.keep_fds={keep}", "--", *command]
out = subprocess.run(command, close_fds=False, stdout=subprocess.PIPE, text=True).stdout
theirs.close()
os.close(40)
print(out.strip(), "|", ours.recv(9).decode() or "nothing")
