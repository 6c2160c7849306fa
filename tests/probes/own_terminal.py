"""palisade on a terminal that this program made: what is typed, what is shown, and which mode it is left in.

usage: own_terminal.py CASE PALISADE POLICY ; ends with status 0 if all was as it should be, and prints what was seen.
"""
import fcntl, os, pty, re, select, shlex, signal, struct, sys, termios, time

case, palisade, policy = sys.argv[1:4]
PATIENCE = 60


class Terminal:
    """A terminal with a program on it: `command`, or a shell that keeps jobs."""

    def __init__(self, *command, size=(24, 80)):
        self.master, self.slave = pty.openpty()
        self.resize(*size)
        self.shown, self.seen = b"", 0
        self.before = termios.tcgetattr(self.slave)
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
            for number in range(3):
                os.dup2(self.slave, number)
            os.closerange(3, 64)
            os.execvp(command[0], command)

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds):
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        self.shown += os.read(self.master, 4096)
        return True

    def until(self, pattern, seconds=PATIENCE):
        """Waits for something new to be shown."""
        end = time.time() + seconds
        while True:
            found = re.search(pattern, self.shown[self.seen:])
            if found:
                self.seen += found.end()
                return found
            if time.time() > end:
                fail(f"no {pattern!r} in {self.shown[self.seen:]!r}")
            self.read(0.1)

    def type(self, keys):
        os.write(self.master, keys)

    def press(self, key, pattern):
        """A key, again and again until it shows: a program that is not there yet does not get it."""
        end = time.time() + PATIENCE
        while not re.search(pattern, self.shown[self.seen:]):
            if time.time() > end:
                fail(f"no {pattern!r} in {self.shown[self.seen:]!r}")
            self.type(key)
            later = time.time() + 3
            while time.time() < later and not re.search(pattern, self.shown[self.seen:]):
                self.read(0.1)
        self.until(pattern)

    def line(self, text):
        self.type(text.encode() + b"\n")

    def raw(self):
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ISIG | termios.ECHO)

    def is_as_before(self):
        return termios.tcgetattr(self.slave) == self.before

    def wait(self):
        """The exit code; what is still shown is read meanwhile."""
        end = time.time() + PATIENCE
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while self.read(0.1):
                    pass
                return os.waitstatus_to_exitcode(status)
            if time.time() > end:
                os.kill(self.pid, signal.SIGKILL)
                fail("it does not end")
            self.read(0.05)


def fail(why):
    sys.exit(f"{case}: {why}")


def check(what, true):
    if not true:
        fail(what)


def run(*command, options=()):
    return [palisade, "run", *options, "--policy", policy, "--", *command]


def shell():
    terminal = Terminal("bash", "--norc", "--noprofile", "-i")
    terminal.line("PS1='ou''ter> '")
    terminal.until(rb"outer> ")
    return terminal


def words(*command, options=()):
    return " ".join(shlex.quote(word) for word in run(*command, options=options))


def wait_for(what, true):
    end = time.time() + PATIENCE
    while not true():
        if time.time() > end:
            fail(what)
        time.sleep(0.05)


def descendants(pid):
    found = []
    for child in open(f"/proc/{pid}/task/{pid}/children").read().split():
        found += [int(child)] + descendants(int(child))
    return found


def job_control():
    terminal = Terminal(*run("bash", "--norc", "--noprofile", "-i"))
    terminal.line("PS1='in''ner> '")
    terminal.until(rb"inner> ")
    check("it is not raw", terminal.raw())
    terminal.line("sleep 1000")
    time.sleep(0.5)
    terminal.press(b"\x1a", rb"Stopped")
    check("the launcher stopped", open(f"/proc/{terminal.pid}/stat").read().rsplit(")")[1].split()[0] not in "Tt")
    terminal.line("jobs | grep -c sleep")
    terminal.until(rb"\r\n1\r\n")
    terminal.line("fg")
    terminal.until(rb"\nsleep 1000")
    time.sleep(0.5)
    terminal.press(b"\x03", rb"inner> ")
    terminal.line("echo code-$? alive-$((6*7))")
    terminal.until(rb"code-130 alive-42")
    terminal.line("exit 5")
    print("code", terminal.wait())
    check("the mode is another one", terminal.is_as_before())


def ends():
    """Nobody but the launcher holds its end, and nobody inside the caller's terminal."""
    terminal = Terminal(*run("sh", "-c", "echo ready; exec sleep 1000"))
    terminal.until(rb"ready")
    caller = os.ttyname(terminal.slave)
    inside = descendants(terminal.pid)
    check("there is nobody inside", inside)
    held = lambda pid: [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")]
    own = held(terminal.pid)
    check(f"the launcher holds {own}", any("ptmx" in link for link in own) and caller in own)
    # The init lets go of all when the workload runs: maybe not before that has said so.
    time.sleep(0.5)
    links = {pid: held(pid) for pid in inside}
    for pid, links_of in links.items():
        check(f"{pid} holds {links_of}", not any("ptmx" in link or link == caller for link in links_of))
    print("held inside:", sorted({link for links_of in links.values() for link in links_of if "pts" in link}) != [])
    os.kill(terminal.pid, signal.SIGTERM)
    terminal.wait()


def size():
    script = 'trap "stty size" WINCH; stty size; echo ready; for i in $(seq 600); do sleep 0.1; done'
    terminal = Terminal(*run("sh", "-c", script), size=(33, 101))
    terminal.until(rb"33 101\r\nready")
    terminal.resize(40, 120)
    terminal.until(rb"40 120")
    terminal.type(b"\x03")
    print("code", terminal.wait())
    check("the mode is another one", terminal.is_as_before())


def restored():
    """After every end the mode is the one from before; while it ran it was another."""

    def one(name, code, *command, during=None, options=(), ran=True):
        terminal = Terminal(*run(*command, options=options))
        if ran:
            terminal.until(rb"ready")
            check(f"{name}: it is not raw", terminal.raw())
        if during:
            during(terminal)
        ended = terminal.wait()
        check(f"{name}: code {ended}: {terminal.shown!r}", ended == code)
        check(f"{name}: the mode is another one", terminal.is_as_before())
        print(name, ended)

    one("exit", 0, "sh", "-c", "echo ready; read line", during=lambda t: t.type(b"x\r"))
    one("term", 143, "sh", "-c", "echo ready; exec sleep 1000", during=lambda t: os.kill(t.pid, signal.SIGTERM))
    one("killed", 137, "sh", "-c", "echo ready; sleep 0.5; kill -KILL $$")
    one("timeout", 124, "sh", "-c", "echo ready; exec sleep 1000", options=("--set", "process.timeout=1s"))
    one("no command", 127, "no-such-command", ran=False)
    one("failed launch", 121, "true", options=("--set", "process.cwd=/no/such/directory"), ran=False)


def pushed():
    """What is pushed into the workload's terminal is, or is not, what the caller's shell reads next."""
    terminal = shell()
    script = "import fcntl, sys\nfor c in b'echo pus''hed-$((6*7))\\n': fcntl.ioctl(0, 0x5412, bytes([c]))\nprint('do' 'ne')"
    script = script.replace("pus''hed", "pus\\'\\'hed")
    terminal.line(words("python3", "-c", script) + "; echo ended-$((40+1))")
    terminal.until(rb"ended-41")
    terminal.line("echo looked-$((40+3))")
    terminal.until(rb"looked-43")
    time.sleep(0.5)
    while terminal.read(0.1):
        pass
    check(f"it could not push: {terminal.shown!r}", b"done\r\n" in terminal.shown)
    print("seen outside" if b"pushed-42" in terminal.shown else "nothing outside")
    terminal.line("exit")
    terminal.wait()


def pipeline():
    terminal = shell()
    terminal.line(words("sh", "-c", "test -t 0 && echo rea''dy >&2; exec cat") + " | tr a-z A-Z; echo code-${PIPESTATUS[0]}")
    terminal.until(rb"[\r\n]ready")
    check("the mode is another one", termios.tcgetattr(terminal.slave)[3] & termios.ICANON)
    terminal.line("hello")
    terminal.until(rb"HELLO\r\n")
    terminal.type(b"\x04")
    terminal.until(rb"code-0")
    # ^C ends the job, which is the caller's own.
    terminal.line(words("sh", "-c", "echo rea''dy >&2; exec sleep 1000") + " | cat")
    terminal.until(rb"[\r\n]ready")
    terminal.type(b"\x03")
    terminal.until(rb"outer> ")
    terminal.line("echo code-${PIPESTATUS[0]}")
    terminal.until(rb"code-130")
    # Somebody else of the pipeline reads keys: none is lost to the workload.
    pager = "import sys, tty; f = open('/dev/tty', 'rb', 0); tty.setcbreak(f); print('list''ening', flush=True); print(b''.join(f.read(1) for _ in range(50)))"
    terminal.line("stty -echo")
    terminal.line(words("sleep", "1000") + f" | timeout --foreground 60 python3 -c {shlex.quote(pager)}")
    terminal.until(rb"listening")
    for _ in range(50):
        terminal.type(b"k")
        time.sleep(0.02)
    terminal.until(rb"k{50}")
    terminal.type(b"\x03")
    terminal.line("exit")
    terminal.wait()
    print("as before")


def mixed():
    """Only what was a terminal is one."""
    terminal = shell()
    look = "for n in 0 1 2; do test -t $n && echo yes-$n >&2 || echo no-$n >&2; done; cat"
    terminal.line("printf 'a\\nb\\n' | " + words("sh", "-c", look) + "; echo code-$?")
    terminal.until(rb"no-0\r+\nyes-1\r+\nyes-2\r+\na\r+\nb\r+\ncode-0")
    terminal.line(words("sh", "-c", look) + " </dev/null >/dev/null; echo code-$?")
    terminal.until(rb"no-0\r+\nno-1\r+\nyes-2\r+\ncode-0")
    terminal.line("exit")
    terminal.wait()
    print("as before")


def stopped():
    """A command that is no shell is stopped and continued as the caller's own job; so is a script around it."""
    terminal = shell()
    terminal.line("bash -c " + shlex.quote(words("sh", "-c", "echo rea''dy; i=0; while :; do i=$((i+1)); echo tick-$i; sleep 0.2; done") + "; true"))
    terminal.until(rb"[\r\n]tick-2")
    terminal.type(b"\x1a")
    terminal.until(rb"Stopped")
    terminal.until(rb"outer> ")
    while terminal.read(0.5):
        pass
    count = terminal.shown.count(b"tick-")
    terminal.read(1)
    check("it went on", terminal.shown.count(b"tick-") == count)
    terminal.line("echo typed-$((40+2))")
    terminal.until(rb"typed-42")
    terminal.line("fg")
    # The command itself, which the shell shows, holds the word, too.
    terminal.until(rb"[\r\n]tick-\d")
    terminal.press(b"\x03", rb"outer> ")
    terminal.line("exit")
    terminal.wait()
    print("as before")


def background():
    """In the background it takes nothing from the terminal, and in the foreground all."""
    terminal = shell()
    terminal.line(words("sh", "-c", "echo rea''dy; read line; echo got-$line; sleep 0.5") + " &")
    terminal.until(rb"ready")
    terminal.line("echo typed-$((40+2))")
    terminal.until(rb"typed-42")
    terminal.line("fg")
    # Nobody tells it that it is in the foreground now: it sees so by the first line.
    time.sleep(1)
    terminal.type(b"word\r")
    terminal.until(rb"got-word")
    terminal.until(rb"outer> ")
    terminal.line("exit")
    terminal.wait()
    print("as before")


def gone():
    """The caller's terminal goes away."""
    for script, code in [("trap 'exit 9' HUP; echo ready; while :; do sleep 0.1; done", 9), ("echo ready; exec sleep 1000", 129)]:
        terminal = Terminal(*run("sh", "-c", script))
        terminal.until(rb"ready")
        os.close(terminal.slave)
        os.close(terminal.master)
        end = time.time() + PATIENCE
        pid = 0
        while not pid and time.time() < end:
            pid, status = os.waitpid(terminal.pid, os.WNOHANG)
            time.sleep(0.05)
        check("it does not end", pid)
        print("code", os.waitstatus_to_exitcode(status))
        check("another code", os.waitstatus_to_exitcode(status) == code)


def much():
    """All of a lot of output arrives, also the last of it."""
    terminal = Terminal(*run("seq", "200000"))
    print("code", terminal.wait())
    lines = terminal.shown.decode().split("\r\n")
    check(f"{len(lines)} lines", lines == [str(n) for n in range(1, 200001)] + [""])


def limited():
    terminal = Terminal(*run("seq", "200000", options=("--set", "process.output_limit=10kB")))
    print("code", terminal.wait())
    seen = terminal.shown.split(b"palisade:")[0]
    check(f"{len(seen)} bytes", len(seen) == 10000)


def watched():
    """What palisade itself says meanwhile stands in lines of its own; so does what it says afterwards."""
    terminal = Terminal(*run("sh", "-c", "printf 'no end'; exec sleep 2.5", options=("-v", "--watch", "--report", "-")))
    print("code", terminal.wait())
    check(f"no line: {terminal.shown!r}", re.search(rb"no end\rpalisade: 1\.\d s [^\r\n]*\r\n", terminal.shown))
    check("no end", re.search(rb"\r\npalisade: ended: exit code 0[^\r\n]*\r\n", terminal.shown))
    check("no report", b'"starts a session with that terminal' in terminal.shown and terminal.shown.endswith(b"\r\n}\r\n"))


def refused():
    """Where no terminal can be made, nothing starts."""
    hidden = "mount --bind /dev/null /dev/ptmx && exec " + words("echo", "star" "ted")
    terminal = Terminal("unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", hidden)
    print("code", terminal.wait())
    check(f"it started: {terminal.shown!r}", b"started\r\n" not in terminal.shown)
    check(f"no reason: {terminal.shown!r}", b"no terminal can be made for the workload" in terminal.shown)
    check("the mode is another one", terminal.is_as_before())


def halted():
    """SIGSTOP cannot be caught: what the shell did to the mode meanwhile is undone when the workload goes on."""
    terminal = shell()
    terminal.line(words("sh", "-c", "echo rea''dy; read line; echo got-$line; exec sleep 1000"))
    terminal.until(rb"[\r\n]ready")
    launcher = descendants(terminal.pid)[0]
    os.kill(launcher, signal.SIGSTOP)
    terminal.until(rb"Stopped")
    terminal.line("stty sane; echo typed-$((40+2))")
    terminal.until(rb"typed-42")
    terminal.line("fg")
    wait_for("it is not raw", terminal.raw)
    terminal.type(b"word\r")
    terminal.until(rb"got-word")
    terminal.type(b"\x03")
    terminal.until(rb"outer> ")
    terminal.line("exit")
    terminal.wait()
    print("as before")


globals()[case]()
