"""Types ^C once on a terminal of its own while a workload counts what arrives.

usage: interrupt.py COMMAND... ; the workload is put behind it. Prints what the terminal showed, and the exit code.
"""
import os, pty, sys

WORKLOAD = """
import signal, time
count = 0
def caught(number, frame):
    global count
    count += 1
signal.signal(signal.SIGINT, caught)
print("ready", flush=True)
end = time.monotonic() + 0.7
while time.monotonic() < end: time.sleep(0.01)
print("caught", count, flush=True)
"""
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:] + ["python3", "-c", WORKLOAD])
shown = b""
typed = False
while True:
    try:
        shown += os.read(terminal, 4096)
    except OSError:  # the other side is gone
        break
    if b"ready" in shown and not typed:
        os.write(terminal, b"\x03")
        typed = True
print(shown.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
