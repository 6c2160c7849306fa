"""One arm: tries every probe in a child of its own and prints `id<TAB>outcome`. Argument: a JSON object of canaries.

OPEN: the attempt worked. DENIED(errno), HIDDEN (not there), VIRTUAL (a private copy), LIMITED, KILLED(signal): it did
not. Nothing here changes anything that matters where it works: wrong magic numbers, same values, canaries only.
"""
import ctypes, errno, fcntl, glob, json, os, resource, signal, socket, struct, sys, time

C = json.loads(sys.argv[1])
TOKEN = C["token"]
DIR = C["dir"]
libc = ctypes.CDLL(None, use_errno=True)
PROBES = {}


def probe(function):
    PROBES[function.__name__.replace("_", "-")] = function
    return function


def call(number, *arguments):
    ctypes.set_errno(0)
    done = libc.syscall(ctypes.c_long(number), *arguments)
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return done


def held(codes, act):
    """Invalid on purpose: one of these errnos says that the power to do it is there."""
    try:
        act()
    except OSError as e:
        if e.errno in codes:
            return True
        raise
    return True


def read(path, size=4096):
    with open(path, "rb") as file:
        return file.read(size)


def has_token(path):
    return TOKEN.encode() in read(path, 65536)


def rewrite(path):
    """Writes a kernel setting back to itself."""
    content = read(path)
    fd = os.open(path, os.O_WRONLY)
    return os.write(fd, content) > 0


def scratch():
    path = f"/tmp/probe-{os.getpid()}"
    os.mkdir(path)
    return path


def p(text):
    return ctypes.c_char_p(text.encode() if isinstance(text, str) else text)


# --- file system
@probe
def fs_read_outside(): return has_token(DIR + "/secret")
@probe
def fs_read_shadow():
    facts = os.stat("/etc/shadow")
    read("/etc/shadow", 1)
    return [facts.st_dev, facts.st_ino] == C["shadow"]
@probe
def fs_list_home(): return os.stat(C["home"]).st_ino == C["home_ino"] and os.listdir(C["home"]) is not None
@probe
def fs_create_outside(): return os.open(f"{DIR}/w", os.O_CREAT | os.O_EXCL | os.O_WRONLY) >= 0
@probe
def fs_truncate_outside(): os.truncate(DIR + "/trunc", 0); return True
@probe
def fs_unlink_outside(): os.unlink(DIR + "/del"); return True
@probe
def fs_dotdot(): os.chdir("/"); return has_token("../../../../.." + DIR + "/secret")
@probe
def fs_symlink_out():
    link = scratch() + "/l"
    os.symlink(DIR + "/secret", link)
    return has_token(link)
@probe
def fs_proc1_root(): return has_token("/proc/1/root" + DIR + "/secret")
@probe
def fs_proc_parent_root(): return has_token(f"/proc/{os.getppid()}/root" + DIR + "/secret")
@probe
def fs_proc_canary_root(): return has_token(f"/proc/{C['pid']}/root" + DIR + "/secret")
@probe
def fs_proc_canary_cwd(): return has_token(f"/proc/{C['pid']}/cwd/secret")
@probe
def fs_proc_canary_fd(): return has_token(f"/proc/{C['pid']}/fd/{C['fd']}")
@probe
def fs_remount_check(): return held([errno.EINVAL], lambda: call(165, None, p(scratch()), None, ctypes.c_ulong(32 | 4096 | 1), None))
@probe
def fs_umount_check(): return held([errno.EINVAL], lambda: call(166, p(scratch()), 0))
@probe
def fs_pivot_check():
    at = scratch()
    return held([errno.EINVAL, errno.EBUSY], lambda: call(155, p(at), p(at)))
@probe
def fs_chroot(): os.chroot(scratch()); return True
@probe
def fs_fsopen(): return call(430, p("tmpfs"), 0) >= 0
@probe
def fs_open_tree_clone(): return call(428, -100, p("/"), ctypes.c_uint(1 | 0x8000)) >= 0
@probe
def fs_mount_tmpfs(): return held([errno.EINVAL], lambda: call(165, p("none"), p(scratch()), p("tmpfs"), ctypes.c_ulong(0), p("size=x")))
@probe
def fs_mknod():
    path = scratch() + "/n"
    os.mknod(path, 0o20600, os.makedev(1, 3))
    return os.open(path, os.O_RDONLY) >= 0
@probe
def fs_block_device(): return os.open(C["block"], os.O_RDONLY | os.O_NONBLOCK) >= 0
@probe
def fs_stat_outside(): os.stat(DIR + "/secret"); return True
@probe
def fs_root_listing(): return sorted(os.listdir("/")) == C["root"]
@probe
def fs_dev_shm_shared(): return has_token("/dev/shm/palisade-" + TOKEN)
@probe
def fs_tmp_shared(): return has_token("/tmp/palisade-" + TOKEN)
@probe
def fs_var_tmp_shared(): return has_token("/var/tmp/palisade-" + TOKEN)
@probe
def fs_sysfs_write(): return rewrite("/sys/kernel/mm/ksm/run")
@probe
def fs_proc_sys_write(): return rewrite("/proc/sys/vm/overcommit_memory")
@probe
def fs_usr_write():
    fd = os.open("/usr/palisade-" + TOKEN, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.unlink("/usr/palisade-" + TOKEN)
    return fd >= 0
@probe
def fs_etc_write():
    fd = os.open("/etc/palisade-" + TOKEN, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.unlink("/etc/palisade-" + TOKEN)
    return fd >= 0
@probe
def fs_open_by_handle():
    mount = os.open("/", os.O_RDONLY)
    handle = bytes.fromhex(C["handle"])
    fd = call(304, mount, p(handle), os.O_RDONLY)
    return TOKEN.encode() in os.read(fd, 4096)


# --- processes and IPC
@probe
def pr_kill_canary(): os.kill(C["pid"], signal.SIGUSR1); return True
@probe
def pr_proc_visible():
    found = False
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            found = found or (C["mark"].encode() in read(path))
        except OSError:
            pass
    if found:
        return True
    raise OSError(errno.ENOENT, "no such process is listed")
@probe
def pr_ptrace_canary():
    # It ends with this child, which detaches by itself.
    return call(101, 0x4206, C["pid"], None, None) == 0
@probe
def pr_vm_readv():
    buffer = ctypes.create_string_buffer(64)
    class Vector(ctypes.Structure):
        _fields_ = [("at", ctypes.c_void_p), ("len", ctypes.c_size_t)]
    here = Vector(ctypes.addressof(buffer), 64)
    there = Vector(C["address"], 64)
    call(310, C["pid"], ctypes.byref(here), ctypes.c_ulong(1), ctypes.byref(there), ctypes.c_ulong(1), ctypes.c_ulong(0))
    return TOKEN.encode() in buffer.raw
@probe
def pr_proc_mem():
    fd = os.open(f"/proc/{C['pid']}/mem", os.O_RDONLY)
    return TOKEN.encode() in os.pread(fd, 64, C["address"])
@probe
def pr_proc_environ(): return has_token(f"/proc/{C['pid']}/environ")
@probe
def pr_proc_maps(): return len(read(f"/proc/{C['pid']}/maps")) > 0
@probe
def pr_pidfd_open(): return call(434, C["pid"], 0) >= 0
@probe
def pr_pidfd_getfd():
    pidfd = call(434, C["pid"], 0)
    return TOKEN.encode() in os.pread(call(438, pidfd, C["fd"], 0), 4096, 0)
@probe
def pr_sysv_shm():
    at = call(29, C["shm_key"], ctypes.c_size_t(0), 0)
    libc.shmat.restype = ctypes.c_void_p
    where = libc.shmat(at, None, 0o10000)
    if where in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "shmat")
    return TOKEN.encode() in ctypes.string_at(where, 64)
@probe
def pr_posix_mq():
    fd = call(240, p("palisade-" + TOKEN), os.O_RDONLY, 0, None)
    return fd >= 0
def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as peer:
        peer.settimeout(2)
        peer.connect(address)
        return TOKEN.encode() in peer.recv(64)
@probe
def pr_abstract_unix(): return connect(socket.AF_UNIX, "\0palisade-" + TOKEN)
@probe
def pr_path_unix(): return connect(socket.AF_UNIX, DIR + "/sock")
@probe
def pr_kcmp(): return call(312, os.getpid(), C["pid"], 2, ctypes.c_ulong(0), ctypes.c_ulong(0)) >= 0
@probe
def pr_keyring_read():
    key = call(250, 10, -4, p("user"), p("palisade-" + TOKEN), 0)
    buffer = ctypes.create_string_buffer(64)
    call(250, 11, key, buffer, ctypes.c_size_t(64))
    return TOKEN.encode() in buffer.raw
@probe
def pr_sched_canary(): return os.sched_getaffinity(C["pid"]) is not None
@probe
def pr_prlimit_canary(): return resource.prlimit(C["pid"], resource.RLIMIT_NOFILE) is not None


# --- network
@probe
def nt_loopback_tcp(): return connect(socket.AF_INET, ("127.0.0.1", C["tcp"]))
@probe
def nt_loopback_tcp6(): return connect(socket.AF_INET6, ("::1", C["tcp6"]))
@probe
def nt_loopback_udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(1)
        peer.sendto(b"?", ("127.0.0.1", C["udp"]))
        try:
            return TOKEN.encode() in peer.recv(64)
        except TimeoutError:
            raise OSError(errno.ECONNREFUSED, "no answer") from None
@probe
def nt_raw_icmp(): return socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).fileno() >= 0
@probe
def nt_packet(): return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).fileno() >= 0
@probe
def nt_vsock(): return socket.socket(40, socket.SOCK_STREAM, 0).fileno() >= 0
@probe
def nt_xdp(): return socket.socket(44, socket.SOCK_RAW, 0).fileno() >= 0
@probe
def nt_bind_low():
    with socket.socket() as peer:
        peer.bind(("127.0.0.1", 997))
        return True
@probe
def nt_iface_list():
    shared = [name for _, name in socket.if_nameindex() if name != "lo" and name in C["interfaces"]]
    if not shared:
        raise OSError(errno.ENOENT, "none")
    return True
@probe
def nt_netlink_noop():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as peer:
        peer.bind((0, 0))
        body = struct.pack("=BBHiII", 0, 0, 0, 1, 0, 0)
        peer.send(struct.pack("=IHHII", 16 + len(body), 19, 5, 1, 0) + body)
        answer = peer.recv(4096)
        code = struct.unpack_from("=i", answer, 16)[0]
        if code:
            raise OSError(-code, os.strerror(-code))
        return True
@probe
def nt_route_out():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.connect(("192.0.2.1", 9))
        return True
@probe
def nt_netns_of_canary(): return os.readlink(f"/proc/{C['pid']}/ns/net") is not None


# --- kernel surface
@probe
def ks_bpf(): return call(321, 0, p(struct.pack("=IIII", 2, 4, 4, 1) + b"\0" * 60), 76) >= 0
def perf(exclude_kernel):
    attributes = struct.pack("=IIQQQQ", 1, 112, 0, 0, 0, 0) + struct.pack("=Q", 1 | (exclude_kernel << 5)) + b"\0" * 64
    return call(298, p(attributes), 0, -1, -1, ctypes.c_ulong(0)) >= 0
@probe
def ks_perf_user(): return perf(1)
@probe
def ks_perf_kernel(): return perf(0)
@probe
def ks_userfaultfd(): return call(323, 0) >= 0
@probe
def ks_userfaultfd_user(): return call(323, 1) >= 0
@probe
def ks_iouring(): return call(425, 1, ctypes.create_string_buffer(120)) >= 0
@probe
def ks_add_key(): return call(248, p("user"), p("probe"), p("x"), ctypes.c_size_t(1), -2) > 0
@probe
def ks_keyctl_session(): return call(250, 0, -3, 0) > 0
@probe
def ks_userns_nest(): call(272, 0x10000000); return True
@probe
def ks_ns_nest_all(): call(272, 0x10000000 | 0x20000 | 0x40000000 | 0x20000000); return True
@probe
def ks_netns(): call(272, 0x40000000); return True
@probe
def ks_setns_own(): call(308, os.open("/proc/self/ns/net", os.O_RDONLY), 0); return True
@probe
def ks_personality(): return call(135, ctypes.c_ulong(0x0040000)) >= 0
@probe
def ks_modify_ldt(): return call(154, 0, ctypes.create_string_buffer(16), ctypes.c_ulong(16)) >= 0
@probe
def ks_acct(): return held([errno.ENOENT], lambda: call(163, p("/palisade-none")))
@probe
def ks_swapon(): return held([errno.ENOENT], lambda: call(167, p("/palisade-none"), 0))
@probe
def ks_swapoff(): return held([errno.ENOENT], lambda: call(168, p("/palisade-none")))
@probe
def ks_reboot(): return held([errno.EINVAL], lambda: call(169, 1, 0, 0, None))
@probe
def ks_settime(): return call(164, None, None) == 0
@probe
def ks_clock_adjtime():
    return held([errno.EINVAL], lambda: call(305, 0, p(struct.pack("=I", 0x4000) + b"\0" * 300)))
@probe
def ks_quotactl(): return held([errno.ENOENT], lambda: call(179, ctypes.c_uint(0x80000400), p("/palisade-none"), 0, None))
@probe
def ks_syslog(): return call(103, 3, ctypes.create_string_buffer(64), 64) > 0
@probe
def ks_mempolicy(): return call(238, 0, None, ctypes.c_ulong(0)) == 0
@probe
def ks_sethostname(): return held([errno.EINVAL], lambda: call(170, p("x"), -1))
@probe
def ks_ioperm(): return held([errno.EINVAL], lambda: call(173, ctypes.c_ulong(0x80), ctypes.c_ulong(0), 0))
@probe
def ks_tiocsti():
    fcntl.ioctl(C["pty"] if os.path.exists(f"/proc/self/fd/{C['pty']}") else 0, 0x5412, b"x")
    return True
@probe
def ks_fanotify(): return call(300, 0, 0) >= 0

# --- privilege
@probe
def pv_nnp(): return libc.prctl(39, 0, 0, 0, 0) == 0
def status(name):
    return next(line.split()[1] for line in read("/proc/self/status").decode().splitlines() if line.startswith(name))
@probe
def pv_capsets():
    if any(int(status(name), 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")):
        return True
    raise OSError(errno.EPERM, "all sets are empty")
@probe
def pv_setuid_helper():
    done = os.popen(DIR + "/setuid 2>/dev/null").read().strip()
    if done == "":
        raise OSError(errno.ENOENT, "not there")
    if done == "0" and os.geteuid() != 0:
        return True
    if done == "0" and C["uid_outside"] == 0:
        return True
    raise OSError(errno.EPERM, "no gain")
@probe
def pv_setresuid0():
    os.setresuid(0, 0, 0)
    return True
@probe
def pv_setgroups(): os.setgroups([0]); return True
@probe
def pv_supp_groups():
    if 0 in os.getgroups() or os.getgid() == 0:
        return True
    raise OSError(errno.EPERM, "no such group")
@probe
def pv_securebits(): libc.prctl.restype = ctypes.c_int; return call(157, 28, call(157, 27, 0, 0, 0, 0), 0, 0, 0) == 0
@probe
def pv_idmap():
    inside, outside, count = read("/proc/self/uid_map").split()[:3]
    if int(outside) == 0:
        return True
    raise OSError(errno.EPERM, "host root is not mapped")
@probe
def pv_plant_setuid():
    path = C["dir"] + "/planted"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o755)
    os.fchmod(fd, 0o4755)
    return os.stat(path).st_mode & 0o4000 != 0
@probe
def pv_chown(): os.chown(DIR + "/trunc", 0, 0); return True


# --- resources
@probe
def rs_fork():
    children = []
    try:
        while len(children) < 320:
            child = os.fork()
            if child == 0:
                time.sleep(2)
                os._exit(0)
            children.append(child)
        return True
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
@probe
def rs_mlock():
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    size = (soft if soft != resource.RLIM_INFINITY else 1 << 20) + (1 << 20)
    libc.mmap.restype = ctypes.c_void_p
    at = libc.mmap(None, ctypes.c_size_t(size), 0, 0x22, -1, ctypes.c_long(0))
    call(149, ctypes.c_void_p(at), ctypes.c_size_t(size))
    return True
@probe
def rs_nice(): os.setpriority(os.PRIO_PROCESS, 0, -5); return True
@probe
def rs_realtime(): os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)); return True
@probe
def rs_pty():
    if any(name.isdigit() and name in C["ptys"] for name in os.listdir("/dev/pts")):
        return True
    raise OSError(errno.ENOENT, "no pty of the host")
@probe
def rs_tmp_bytes():
    path = scratch() + "/big"
    with open(path, "wb") as file:
        try:
            for _ in range(300):
                file.write(b"\0" * (1 << 20))
            file.flush()
        finally:
            os.truncate(path, 0)
    return True

# --- information
@probe
def il_env_secret(): return os.environ.get("PALISADE_CANARY_SECRET") == TOKEN or (_ for _ in ()).throw(OSError(errno.ENOENT, "not set"))
@probe
def il_env_extra(): return "PALISADE_EXTRA" in os.environ or (_ for _ in ()).throw(OSError(errno.ENOENT, "not set"))
def equal(mine, theirs):
    if mine == theirs:
        return True
    raise OSError(errno.ENOENT, "another one")
@probe
def il_hostname(): return equal(os.uname().nodename, C["hostname"])
@probe
def il_cmdline(): return equal(read("/proc/cmdline").decode(), C["cmdline"])
@probe
def il_kallsyms(): return int(read("/proc/kallsyms", 64).split()[0], 16) != 0 or (_ for _ in ()).throw(OSError(errno.EPERM, "zeros"))
@probe
def il_machine_id(): return equal(read("/etc/machine-id").decode(), C["machine_id"])
@probe
def il_boot_id(): return equal(read("/proc/sys/kernel/random/boot_id").decode(), C["boot_id"])
@probe
def il_uptime(): return abs(time.clock_gettime(7) - (C["boottime"] + time.time() - C["now"])) < 2 or (_ for _ in ()).throw(OSError(errno.ENOENT, "another one"))
@probe
def il_proc_keys(): return has_token("/proc/keys") or (_ for _ in ()).throw(OSError(errno.ENOENT, "not listed"))
def first_byte(path):
    with open(path, "rb") as file:
        file.read(1)
    return True
@probe
def il_timer_list(): return first_byte("/proc/timer_list")
@probe
def il_slabinfo(): return first_byte("/proc/slabinfo")
@probe
def il_vmallocinfo(): return first_byte("/proc/vmallocinfo")
@probe
def il_interrupts(): return first_byte("/proc/interrupts")
@probe
def il_iomem(): return first_byte("/proc/iomem")
@probe
def il_config_gz(): return first_byte("/proc/config.gz")
@probe
def il_sys_kernel(): return first_byte("/sys/kernel/notes")
@probe
def il_sys_class(): return len(os.listdir("/sys/class/net")) > 0
@probe
def il_ns_identity():
    shared = [name for name in ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup") if os.readlink(f"/proc/self/ns/{name}") == C["ns"][name]]
    if shared:
        return True
    raise OSError(errno.ENOENT, "all are new")
@probe
def il_passwd(): return equal([os.stat("/etc/passwd").st_dev, os.stat("/etc/passwd").st_ino], C["passwd"])
@probe
def il_hosts_processes(): return equal(len([n for n in os.listdir("/proc") if n.isdigit()]) > 20, True)


# --- escape classics
@probe
def es_release_agent(): return rewrite(C["release_agent"])
@probe
def es_notify_on_release(): return rewrite(C["notify"])
@probe
def es_cgroup_procs():
    return os.open(os.path.dirname(C["notify"]) + "/cgroup.procs", os.O_WRONLY) >= 0
@probe
def es_core_pattern(): return rewrite("/proc/sys/kernel/core_pattern")
@probe
def es_sysrq(): return os.open("/proc/sysrq-trigger", os.O_WRONLY) >= 0
@probe
def es_kmsg(): return os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK) >= 0
@probe
def es_mem_of_init(): return os.open("/proc/1/mem", os.O_RDONLY) >= 0
@probe
def es_ns_of_init():
    link = os.readlink("/proc/1/ns/mnt")
    return equal(link, C["ns"]["mnt"])


def attempt(function):
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            said = "OPEN" if function() else "VIRTUAL"
        except OSError as e:
            hidden = e.errno in (errno.ENOENT, errno.ESRCH)
            name = errno.errorcode.get(e.errno, str(e.errno))
            said = f"{'HIDDEN' if hidden else 'DENIED'}({name})"
        except MemoryError:
            said = "LIMITED"
        except BaseException as e:
            said = f"INCONCLUSIVE({type(e).__name__}: {e})"
        os.write(into, said.encode())
        os._exit(0)
    os.close(into)
    said = os.read(out, 4096).decode()
    os.close(out)
    _, how = os.waitpid(child, 0)
    if os.WIFSIGNALED(how):
        name = signal.Signals(os.WTERMSIG(how)).name
        said = "INCONCLUSIVE(it hung)" if name == "SIGALRM" else f"KILLED({name})"
    return said.replace("\t", " ").replace("\n", " ")


for name, function in PROBES.items():
    print(f"{name}\t{attempt(function)}", flush=True)
