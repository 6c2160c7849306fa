"""A shell with job control on a terminal of its own: ^Z stops palisade and the workload, fg goes on, ^C ends both once.

usage: terminal.py PALISADE POLICY ; prints what the terminal showed.
"""
import os, pty, re, select, sys, time

palisade, policy = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
shown = b""


def until(pattern, seconds=20):
    global shown
    end = time.time() + seconds
    start = len(shown)
    while time.time() < end:
        if re.search(pattern, shown[start:]):
            return
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                shown += os.read(terminal, 4096)
            except OSError:
                break
    print(shown.decode(errors="replace"))
    sys.exit(f"no {pattern!r}")


def type_in(text):
    os.write(terminal, text)


type_in(b"PS1='$ '; set -b\n")
until(rb"set -b")
script = 'trap "echo caught-$((6*7)); exit 7" INT; echo ready-$((40+2)); while :; do sleep 0.1; done'
type_in(f"{palisade} run --policy {policy} -- sh -c '{script}'\n".encode())
until(rb"ready-42")
type_in(b"\x1a")
until(rb"Stopped")
type_in(b"ps -o stat= -p $(jobs -p %1); echo looked\n")
until(rb"T[^\n]*\r?\n(.|\n)*looked\r?\n")
type_in(b"fg\n")
until(rb"palisade")
time.sleep(0.5)
type_in(b"\x03")
until(rb"caught-42")
# What is typed before the workload has ended is the workload's, where it has a terminal of its own.
until(rb"\$ $")
type_in(b"echo code-$?\n")
until(rb"code-7")
type_in(b"exit\n")
time.sleep(0.2)
os.close(terminal)
os.waitpid(pid, 0)
print(f"caught {shown.count(b'caught-42' + bytes([13, 10]))} times")
