"""A command on a terminal of its own that is asked something: types the answer, prints what was shown.

usage: answer.py ANSWER COMMAND... ; ends with the command's status, or with 99 if it was never asked.
"""
import os, pty, select, sys, time

answer, command = sys.argv[1], sys.argv[2:]
pid, master = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
shown, asked, end = b"", False, time.time() + 50
while time.time() < end:
    if select.select([master], [], [], 0.1)[0]:
        try:
            shown += os.read(master, 4096)
        except OSError:
            break
    if not asked and b"[y/N] " in shown:
        asked = True
        os.write(master, answer.encode() + b"\n")
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stdout.buffer.write(shown)
sys.exit(status if asked else 99)
