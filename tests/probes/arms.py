"""Makes the canaries, runs the probes without and with a policy, and removes the canaries.

usage: arms.py INSIDE.py POLICY PALISADE... ; prints `id<TAB>bare<TAB>under` and ends with status 0.
"""
import ctypes, json, os, pathlib, pty, shutil, signal, socket, struct, subprocess, sys, threading, time

inside, policy, palisade = sys.argv[1], sys.argv[2], sys.argv[3:]
token = os.urandom(8).hex()
libc = ctypes.CDLL(None, use_errno=True)
where = f"/var/tmp/palisade-{token}.d"

CANARY = """
import ctypes, os, signal, sys, time
os.chdir(sys.argv[2])
hits = open("hits", "w")
signal.signal(signal.SIGUSR1, lambda *_: (hits.write("x"), hits.flush()))
token = os.environ["PALISADE_TOKEN"].encode()
memory = ctypes.create_string_buffer(token + b" in memory")
fd = os.open("secret", os.O_RDONLY)
print(os.getpid(), ctypes.addressof(memory), fd, flush=True)
while True: time.sleep(1)
"""


def serve(family, address, kind=socket.SOCK_STREAM):
    server = socket.socket(family, kind)
    server.bind(address)
    if kind == socket.SOCK_STREAM:
        server.listen()

    def run():
        while True:
            try:
                if kind == socket.SOCK_STREAM:
                    peer, _ = server.accept()
                    peer.sendall(token.encode())
                    peer.close()
                else:
                    _, peer = server.recvfrom(64)
                    server.sendto(token.encode(), peer)
            except OSError:
                return

    threading.Thread(target=run, daemon=True).start()
    return server


def handle():
    """The file handle of the secret, for open_by_handle_at."""
    buffer = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0) + b"\0" * 128, 136)
    mount = ctypes.c_int()
    if libc.name_to_handle_at(-100, f"{where}/secret".encode(), buffer, ctypes.byref(mount), 0):
        return ""
    return buffer.raw.hex()


def make():
    os.mkdir(where)
    os.chmod(where, 0o777)
    for name in ("secret", "trunc", "del"):
        path = f"{where}/{name}"
        pathlib.Path(path).write_text(token + "\n")
        os.chmod(path, 0o666)
    for path in (f"/dev/shm/palisade-{token}", f"/tmp/palisade-{token}", f"/var/tmp/palisade-{token}"):
        pathlib.Path(path).write_text(token)
    source = f"{where}/setuid.c"
    pathlib.Path(source).write_text('#include <stdio.h>\n#include <unistd.h>\nint main(){printf("%d\\n",(int)geteuid());return 0;}\n')
    subprocess.run(["gcc", "-o", f"{where}/setuid", source], check=True)
    os.chmod(f"{where}/setuid", 0o4755)
    shm = libc.shmget(int(token[:7], 16), 4096, 0o1666)
    libc.shmat.restype = ctypes.c_void_p
    at = libc.shmat(shm, None, 0)
    ctypes.memmove(at, token.encode(), len(token))
    mq = libc.syscall(240, f"palisade-{token}".encode(), os.O_CREAT | os.O_RDWR, 0o666, None)
    key = libc.syscall(248, b"user", f"palisade-{token}".encode(), token.encode(), ctypes.c_size_t(len(token)), -4)
    libc.syscall(250, 5, key, ctypes.c_uint(0x3f3f3f3f))
    environment = dict(os.environ, PALISADE_TOKEN=token)
    canary = subprocess.Popen([sys.executable, "-c", CANARY, f"canary-{token}", where], env=environment, stdout=subprocess.PIPE, text=True)
    pid, address, fd = map(int, canary.stdout.readline().split())
    servers = {
        "tcp": serve(socket.AF_INET, ("127.0.0.1", 0)),
        "udp": serve(socket.AF_INET, ("127.0.0.1", 0), socket.SOCK_DGRAM),
        "tcp6": serve(socket.AF_INET6, ("::1", 0)),
        "abstract": serve(socket.AF_UNIX, f"\0palisade-{token}"),
        "path": serve(socket.AF_UNIX, f"{where}/sock"),
    }
    os.chmod(f"{where}/sock", 0o777)
    master, slave = pty.openpty()
    facts = lambda path: [os.stat(path).st_dev, os.stat(path).st_ino]
    block = os.stat("/").st_dev
    device = next((f"/dev/{n}" for n in os.listdir("/dev") if stat_block(f"/dev/{n}") == block), "/dev/vda")
    v1 = next((line.split()[4] for line in open("/proc/self/mountinfo") if " - cgroup " in line), "/sys/fs/cgroup")
    config = {
        "token": token, "dir": where, "pid": pid, "address": address, "fd": fd, "mark": f"canary-{token}",
        "shadow": facts("/etc/shadow"), "passwd": facts("/etc/passwd"), "home": "/root", "home_ino": os.stat("/root").st_ino,
        "root": sorted(os.listdir("/")), "block": device, "shm_key": int(token[:7], 16), "pty": slave, "uid_outside": os.geteuid(),
        "tcp": servers["tcp"].getsockname()[1], "udp": servers["udp"].getsockname()[1], "tcp6": servers["tcp6"].getsockname()[1],
        "interfaces": [name for _, name in socket.if_nameindex()], "handle": handle(), "hostname": os.uname().nodename,
        "cmdline": open("/proc/cmdline").read(), "boot_id": open("/proc/sys/kernel/random/boot_id").read(),
        "machine_id": open("/etc/machine-id").read() if os.path.exists("/etc/machine-id") else "none",
        "boottime": time.clock_gettime(7), "now": time.time(), "ptys": [n for n in os.listdir("/dev/pts") if n.isdigit()],
        "ns": {name: os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup")},
        "release_agent": f"{v1}/release_agent", "notify": f"{v1}/notify_on_release",
    }

    def remove():
        canary.kill()
        canary.wait()
        for server in servers.values():
            server.close()
        libc.shmctl(shm, 0, None)
        libc.syscall(241, f"palisade-{token}".encode())
        libc.syscall(250, 9, key, -4)
        os.close(mq)
        shutil.rmtree(where)
        for path in (f"/dev/shm/palisade-{token}", f"/tmp/palisade-{token}", f"/var/tmp/palisade-{token}"):
            os.unlink(path)
        for path in pathlib.Path("/tmp").glob("probe-*"):
            shutil.rmtree(path, ignore_errors=True)

    return config, slave, remove


def stat_block(path):
    try:
        facts = os.stat(path)
        return facts.st_rdev if facts.st_mode & 0o170000 == 0o060000 else None
    except OSError:
        return None


def restore():
    for name in ("trunc", "del"):
        path = f"{where}/{name}"
        pathlib.Path(path).write_text(token + "\n")
        os.chmod(path, 0o666)
    for name in ("w", "planted"):
        pathlib.Path(f"{where}/{name}").unlink(missing_ok=True)


def arm(command, config, slave):
    restore()
    environment = dict(os.environ, PALISADE_CANARY_SECRET=token, PALISADE_EXTRA="1")
    source = pathlib.Path(inside).read_text()
    # The script comes as an argument: under the policy its file is not there. Standard input is a pty of ours.
    done = subprocess.run(command + ["python3", "-c", source, json.dumps(config)],
                          env=environment, stdin=slave, pass_fds=[slave], stdout=subprocess.PIPE, text=True, timeout=120)
    if done.returncode:
        sys.exit(f"{command}: status {done.returncode}")
    return dict(line.split("\t") for line in done.stdout.splitlines())


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    config, slave, remove = make()
    try:
        bare = arm([], config, slave)
        hits = os.path.getsize(f"{where}/hits")
        under = arm(palisade + ["run", "--policy", policy, "--"], config, slave)
        outside = os.path.getsize(f"{where}/hits") - hits
        planted = any(os.path.exists(f"{where}/{name}") for name in ("w", "planted")) or os.path.getsize(f"{where}/trunc") == 0
    finally:
        remove()
    for name in bare:
        print(f"{name}\t{bare[name]}\t{under.get(name, 'INCONCLUSIVE(no answer)')}")
    print(f"outside-signals\tOPEN\t{'OPEN' if outside else 'HIDDEN(seen from outside)'}")
    print(f"outside-files\tOPEN\t{'OPEN' if planted else 'HIDDEN(seen from outside)'}")


main()
