#!/usr/bin/python3
"""What stepdown, setpriv, landrun and bwrap make of the same jobs and traps of confinement.

    confinement-rows.py PEER...     prints JSON: [[section, row, {head of the peer's column: cell}]]
    confinement-rows.py --cost PEER...

Runs as root in mount, network and PID namespaces of its own (scripts/compare-confinement and tests/it/confine/peers.rs
make them), with a user node, 1000:1000, in passwd. STEPDOWN is the binary; W an empty directory that everybody may pass
through. The peers are those in PATH.
"""
import contextlib, ctypes, json, os, pty, re, select, shutil, signal, socket, statistics, struct, subprocess, sys, time

W = os.environ["W"]
A, B, C = f"{W}/a", f"{W}/b", f"{W}/c"
STEPDOWN = os.environ.get("STEPDOWN", "stepdown")
NONE = "no such option"
USER = ["--reuid=1000", "--regid=1000", "--clear-groups"]
AS_NODE = ["setpriv", *USER, "--inh-caps=-all"]

# Tries each line: says `ok`, the name of the error, or what the line says itself.
PROBE = """
import ctypes, errno, fcntl, mmap, os, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*words):
    if libc.syscall(*words) < 0: raise OSError(ctypes.get_errno(), '')
def runs(*words):
    code = os.waitpid(os.posix_spawn(words[0], words, {}), 0)[1]
    if code: raise OSError(errno.EIO, '')
def call_32(number, path, mode):
    # mov eax, number; mov ebx, path; mov ecx, mode; int 0x80; ret -- with the path below 4 GiB, as MAP_32BIT has it.
    page = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | 0x40, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    at = ctypes.addressof(ctypes.c_char.from_buffer(page))
    word = lambda value: value.to_bytes(4, 'little')
    page[0:20] = b'S\\xb8' + word(number) + b'\\xbb' + word(at + 64) + b'\\xb9' + word(mode) + b'\\xcd\\x80[\\xc3'
    page[64:64 + len(path) + 1] = path + b'\\0'
    result = ctypes.CFUNCTYPE(ctypes.c_int)(at)()
    if result < 0: raise OSError(-result, '')
for line in sys.argv[1:]:
    says = 'ok'
    try: exec(line)
    except OSError as error: says = {95: 'EOPNOTSUPP'}.get(error.errno) or errno.errorcode[error.errno]
    print(says)
    sys.stdout.flush()
"""


def command(lines):
    return ["/usr/bin/python3", "-c", PROBE, *lines]


def run(words, fds=(), **more):
    """The lines that were printed; or how the program refused."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, pass_fds=fds, **more)
    if os.environ.get("EXPLAIN"):
        print(words, done, sep="\n", end="\n\n", file=sys.stderr)
    return done


def told(done):
    if done.returncode == 0:
        return ", ".join(done.stdout.split("\n")[:-1])
    return f"refused ({done.returncode})"


class Peer:
    before = []  # What it takes to be node, where the program can't do it.
    ro, rox, rw = "--ro", "--rox", "--rw"

    def paths(self, ro=(), rox=(), rw=()):
        words = [[self.ro, path] for path in ro] + [[self.rox, path] for path in rox] + [[self.rw, path] for path in rw]
        return sum(words, [])

    def system(self):
        return self.paths(rox=["/usr", "/bin", "/lib", "/lib64"], ro=["/etc"])

    def line(self, words, command):
        return [*self.before, self.program, *words, *command]

    def tries(self, words, lines, **more):
        return told(run(self.line(words, command(lines)), **more))

    def confined(self, lines, ro=(), rox=(), rw=(), **more):
        return self.tries(self.system() + self.paths(ro, rox, rw), lines, **more)


class Stepdown(Peer):
    program = STEPDOWN
    only_ports = ["--bind-tcp", "80"]
    one_port = ["--connect-tcp", "80"]

    def head(self):
        return "stepdown"

    def line(self, words, command):
        return [self.program, *words, "node", *command]


class Setpriv(Peer):
    program = "setpriv"
    READ = "read-file,read-dir"
    WRITE = "write-file,truncate,remove-dir,remove-file,make-dir,make-reg,make-sock,make-fifo,make-sym,refer,ioctl-dev"

    def head(self):
        return "setpriv " + run(["setpriv", "--version"]).stdout.split()[3]

    def line(self, words, command):
        return ["setpriv", *USER, "--inh-caps=-all", *words, *command]

    def paths(self, ro=(), rox=(), rw=()):
        rule = lambda rights, paths: [f"--landlock-rule=path-beneath:{rights}:{path}" for path in paths]
        write = f"{self.READ},{self.WRITE}"
        return ["--landlock-access=fs", *rule(self.READ, ro), *rule(f"{self.READ},execute", rox), *rule(write, rw)]


class Landrun(Peer):
    """Its default asks for ABI 9, and fails where the kernel has less: see the rows of kernels."""

    program = "landrun"
    before = AS_NODE
    only_ports = ["--unrestricted-filesystem", "--bind-tcp", "80"]
    one_port = ["--unrestricted-filesystem", "--connect-tcp", "80"]

    def head(self):
        return "landrun " + run(["landrun", "--version"]).stdout.split()[-1]

    def line(self, words, command):
        return [*self.before, "landrun", "--best-effort", *words, "--", *command]


class Bwrap(Peer):
    program = "bwrap"
    before = AS_NODE
    BARE = ["--bind", "/", "/", "--dev-bind", "/dev", "/dev"]

    def head(self):
        return "bwrap " + run(["bwrap", "--version"]).stdout.split()[1]

    def paths(self, ro=(), rox=(), rw=()):
        words = [["--ro-bind", path, path] for path in [*ro, *rox]] + [["--bind", path, path] for path in rw]
        return sum(words, [])

    def system(self):
        links = sum((["--symlink", f"usr/{name}", f"/{name}"] for name in ["bin", "lib", "lib64"]), [])
        return [*self.paths(ro=["/usr", "/etc"]), *links]


PEERS = {"stepdown": Stepdown, "setpriv": Setpriv, "landrun": Landrun, "bwrap": Bwrap}
ROWS = []


def row(section, title):
    def add(function):
        ROWS.append((section, title, function))
        return function

    return add


def fresh():
    """The tree that is tried on: node's, in a directory of root's."""
    for name in os.listdir(W):
        shutil.rmtree(f"{W}/{name}") if os.path.isdir(f"{W}/{name}") else os.unlink(f"{W}/{name}")
    for name in ["a", "b", "c", "theirs"]:
        os.mkdir(f"{W}/{name}")
        with open(f"{W}/{name}/file", "w") as file:
            file.write("x")
    shutil.copy("/bin/true", f"{A}/run")
    os.symlink(B, f"{W}/theirs/link")
    with open(f"{W}/key", "w") as file:
        file.write("key")
    os.chmod(f"{W}/key", 0o600)
    subprocess.run(["chown", "-hR", "1000:1000", A, B, C, f"{W}/theirs"], check=True)


# --- Files


@row("Files", "`open` of a file below a directory that is named, and of another")
def _(peer):
    return peer.confined([f"open('{A}/file')", f"open('{B}/file')"], ro=[A])


@row("Files", "`open` for writing below a directory named as writable; a program below it is run")
def _(peer):
    return peer.confined([f"open('{A}/file', 'a')", f"runs('{A}/run')"], rw=[A])


@row("Files", "execution in /usr alone, all else as ever: a program there; one elsewhere; a file is written to")
def _(peer):
    words = {
        Stepdown: ["--rox", "/usr", "--rw", "/"],
        Landrun: ["--rox", "/usr", "--rw", "/"],
        Setpriv: ["--landlock-access=fs:execute", "--landlock-rule=path-beneath:execute:/usr"],
    }.get(type(peer))
    return peer.tries(words, ["runs('/usr/bin/true')", f"runs('{A}/run')", f"open('{B}/file', 'a')"]) if words else NONE


@row("Files", "a program that may not be executed: by the loader, `ld.so FILE`; a copy of it in memory, memfd")
def _(peer):
    loader = "/lib64/ld-linux-x86-64.so.2" if os.uname().machine == "x86_64" else "/lib/ld-linux-aarch64.so.1"
    memory = f"f = os.memfd_create('x', 0); os.write(f, open('{A}/run', 'rb').read()); runs(f'/proc/self/fd/{{f}}')"
    if isinstance(peer, Bwrap):
        return "all may be executed"
    return peer.confined([f"runs('{loader}', '{A}/run')", memory], rw=[A], ro=["/proc"])


@row("Files", "`rename` from one writable directory to another")
def _(peer):
    return peer.confined([f"os.rename('{A}/file', '{B}/moved')"], rw=[A, B])


@row("Files", "read only: `open` for writing, `truncate`")
def _(peer):
    lines = [f"open('{A}/file', 'a')", f"os.truncate('{A}/file', 0)"]
    plain = peer.confined(lines, ro=[A])
    if not isinstance(peer, Setpriv):
        return plain
    return f"{plain}; with `fs:write`: {peer.tries(['--landlock-access=fs:write'], lines)}"


@row("Files", "`ioctl` of a device that may be read, /dev/null")
def _(peer):
    lines = ["fcntl.ioctl(os.open('/dev/null', os.O_RDONLY), 0x1260)"]
    if isinstance(peer, Bwrap):
        return f"{peer.confined(lines, ro=['/dev/null'])}; `--dev-bind`: " + peer.tries(
            [*peer.system(), "--dev-bind", "/dev/null", "/dev/null"], lines
        )
    if isinstance(peer, Setpriv):
        return peer.tries([*peer.system(), "--landlock-rule=path-beneath:read-file:/dev/null"], lines)
    return peer.confined(lines, ro=["/dev/null"])


@row("Files", "a path that is not there")
def _(peer):
    plain = peer.confined(["says = 'runs'"], ro=[f"{W}/none"])
    if isinstance(peer, Landrun):
        return f"{plain}; `--ignore-missing`: " + peer.tries(
            [*peer.system(), "--ro", f"{W}/none", "--ignore-missing"], ["says = 'runs'"]
        )
    if isinstance(peer, Bwrap):
        return f"{plain}; `--ro-bind-try`: " + peer.tries([*peer.system(), "--ro-bind-try", f"{W}/none", "/x"], ["says = 'runs'"])
    return plain


@row("Files", "a path with a symbolic link of the user's own, to another directory: what is there can be read")
def _(peer):
    return peer.confined([f"open('{W}/theirs/link/file')" if isinstance(peer, Bwrap) else f"open('{B}/file')"], ro=[f"{W}/theirs/link"])


@row("Files", "a single file that is named, as readable")
def _(peer):
    lines = [f"open('{A}/file')", f"open('{A}/run')"]
    plain = peer.confined(lines, ro=[f"{A}/file"])
    if not isinstance(peer, Setpriv):
        return plain
    by_right = [*peer.system(), f"--landlock-rule=path-beneath:read-file:{A}/file"]
    return f"{plain}; as `read-file`: {peer.tries(by_right, lines)}"


@row("Files", "a word cut short")
def _(peer):
    words = {
        Stepdown: ["--r", "/usr"],
        Setpriv: ["--landlock-access=fs:make"],
        Landrun: ["--r", "/usr"],
        Bwrap: [*Bwrap.BARE, "--ro-bin", "/usr", "/usr"],
    }[type(peer)]
    cell = peer.tries(words, [f"os.mkdir('{A}/new')", f"open('{A}/new/file', 'w')"])
    return f"`fs:make` is make-char: mkdir {cell.split(',')[0]}" if isinstance(peer, Setpriv) else cell


@row("Files", "open since before: a file below a directory on descriptor 7; a file of root's alone on 8")
def _(peer):
    directory, key = os.open(B, os.O_RDONLY | os.O_DIRECTORY), os.open(f"{W}/key", os.O_RDONLY)
    os.dup2(directory, 7), os.dup2(key, 8)
    try:
        return peer.confined(["os.open('file', os.O_RDONLY, dir_fd=7)", "os.read(8, 1)"], fds=(7, 8))
    finally:
        for fd in {directory, key, 7, 8}:
            os.close(fd)


@row("Files", "of a file that is not named: `stat`, `chmod`")
def _(peer):
    return peer.confined([f"os.stat('{B}/file')", f"os.chmod('{B}/file', 0o600)"], ro=[A])


# --- Ports and sockets

BINDS = [f"socket.socket().bind(('127.0.0.1', {port}))" for port in [80, 81, 8080, 0]]
CAPABILITY = ["--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service"]


@row("Ports and sockets", "exactly port 80, as uid 1000: `bind` of 80, 81, 8080, 0")
def _(peer):
    if isinstance(peer, Stepdown):
        return peer.tries(peer.only_ports, BINDS)
    if isinstance(peer, Setpriv):
        return "no rules for ports; with the capability: " + told(run(["setpriv", *USER, *CAPABILITY, *command(BINDS)]))
    if isinstance(peer, Landrun):
        words = ["setpriv", *USER, *CAPABILITY, "landrun", "--best-effort", *peer.only_ports, "--", *command(BINDS)]
        return "with setpriv's capability: " + told(run(words))
    return "no rules for ports; `--cap-add`: " + peer.tries([*peer.BARE, "--unshare-user", "--cap-add", "CAP_NET_BIND_SERVICE"], BINDS)


@row("Ports and sockets", "the same rule, and `bind` of 8080 by MPTCP")
def _(peer):
    line = "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).bind(('127.0.0.1', 8080))"
    return peer.tries(peer.only_ports, [line]) if hasattr(peer, "only_ports") else NONE


@row("Ports and sockets", "the same rule and capability, and `bind` of 53 by UDP")
def _(peer):
    line = "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(('127.0.0.1', 53))"
    if isinstance(peer, Landrun):
        return told(run(["setpriv", *USER, *CAPABILITY, "landrun", "--best-effort", *peer.only_ports, "--", *command([line])]))
    return peer.tries(peer.only_ports, [line]) if hasattr(peer, "only_ports") else NONE


@row("Ports and sockets", "the same rule, and `listen` without a `bind`, which takes a free port")
def _(peer):
    return peer.tries(peer.only_ports, ["socket.socket().listen()"]) if hasattr(peer, "only_ports") else NONE


@row("Ports and sockets", "the same rule, and `connect` to port 9999")
def _(peer):
    line = "socket.socket().connect(('127.0.0.1', 9999))"
    return peer.tries(peer.only_ports, [line]) if hasattr(peer, "only_ports") else NONE


@row("Ports and sockets", "`connect` to port 80 alone: to 9999 by `connect`; by `sendto` with MSG_FASTOPEN; UDP to 9999")
def _(peer):
    lines = [
        "socket.socket().connect(('127.0.0.1', 9999))",
        "socket.socket().sendto(b'x', socket.MSG_FASTOPEN, ('127.0.0.1', 9999))",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9999))",
    ]
    if hasattr(peer, "one_port"):
        return peer.tries(peer.one_port, lines)
    if isinstance(peer, Bwrap):
        return "no rules for ports; `--unshare-net`: " + peer.tries([*peer.BARE, "--unshare-net"], lines)
    return NONE


OUTSIDE = """
import os, socket, time
s = socket.socket(socket.AF_UNIX); s.bind(b"\\0outside"); s.listen()
p = socket.socket(socket.AF_UNIX); p.bind(os.environ["W"] + "/b/socket"); p.listen()
print(os.getpid(), flush=True); time.sleep(600)"""


@contextlib.contextmanager
def outside():
    """A process of the same user: it listens on an abstract socket and on a path."""
    process = subprocess.Popen([*AS_NODE, "/usr/bin/python3", "-c", OUTSIDE], stdout=subprocess.PIPE, text=True)
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


@row("Ports and sockets", "an abstract Unix socket of, a signal to, a process of the same user outside")
def _(peer):
    words = {
        Stepdown: ["--scope"],
        Setpriv: [],
        Landrun: ["--unrestricted-filesystem"],
        Bwrap: [*Bwrap.BARE, "--unshare-net", "--unshare-pid"],
    }[type(peer)]
    with outside() as pid:
        cell = peer.tries(words, ["socket.socket(socket.AF_UNIX).connect(b'\\0outside')", f"os.kill({pid}, 0)"])
    return f"{NONE}: {cell}" if isinstance(peer, Setpriv) else cell


@row("Ports and sockets", "a Unix socket of that process below a directory that is not named")
def _(peer):
    with outside():
        return peer.confined([f"socket.socket(socket.AF_UNIX).connect('{B}/socket')"], ro=[A])


# --- System calls

MKDIR, SWITCH = [83, 258], [105, 106, 113, 114, 116, 117, 119, 126]


def bpf(numbers):
    """What people write by hand: numbers of x86_64, no look at the architecture; EPERM."""
    words = [(0x20, 0, 0, 0)]
    for number in numbers:
        words += [(0x15, 0, 1, number), (0x06, 0, 0, 0x00050001)]
    return b"".join(struct.pack("HBBI", *word) for word in [*words, (0x06, 0, 0, 0x7FFF0000)])


def profile(*names):
    rule = {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}).encode()


def filtered(peer, content, lines):
    """With a filter in a file, however the program takes one."""
    path = f"{W}/filter"
    with open(path, "wb") as file:
        file.write(content)
    if isinstance(peer, Bwrap):
        fd = os.open(path, os.O_RDONLY)
        os.set_inheritable(fd, True)
        try:
            return peer.tries([*peer.BARE, "--seccomp", str(fd)], lines, fds=(fd,))
        finally:
            os.close(fd)
    option = {Stepdown: "--seccomp", Setpriv: "--seccomp-filter"}.get(type(peer))
    return peer.tries([f"{option}={path}"], lines) if option else NONE


MAKES = f"os.mkdir('{A}/new')"


@row("System calls", "a profile of Docker's, as JSON, that refuses mkdir: `mkdir`")
def _(peer):
    return filtered(peer, profile("mkdir", "mkdirat"), [MAKES])


@row("System calls", "the same as raw BPF, written by hand")
def _(peer):
    return filtered(peer, bpf(MKDIR), [MAKES])


@row("System calls", "`mkdir` by its 32-bit number under either")
def _(peer):
    lines = [f"call_32(39, b'{A}/new', 0o755)"]
    return filtered(peer, profile("mkdir", "mkdirat") if isinstance(peer, Stepdown) else bpf(MKDIR), lines)


@row("System calls", "a filter for services without a file: `unshare` of a user namespace, `ptrace`, `add_key`, a socket")
def _(peer):
    lines = ["call(272, 0x10000000)", "call(101, 0, 0, 0, 0)", "call(248, b'user', b'k', b'v', 1, -4)", "socket.socket()"]
    if isinstance(peer, Bwrap):
        return f"{NONE}; `--disable-userns`: " + peer.tries([*peer.BARE, "--unshare-user", "--disable-userns"], lines[:1])
    return peer.tries(["--seccomp", "service"], lines) if isinstance(peer, Stepdown) else NONE


@row("System calls", "a filter that refuses setuid, setgid, setgroups and their kin: the command's uid")
def _(peer):
    names = ["setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "capset"]
    return filtered(peer, profile(*names) if isinstance(peer, Stepdown) else bpf(SWITCH), ["says = str(os.getuid())"])


# --- The process

CAPABILITIES = (
    "h = (ctypes.c_uint * 2)(0x20080522, 0); d = (ctypes.c_uint * 6)(); libc.capget(h, d); "
    "count = lambda n: bin(n).count('1'); "
    "bounding = sum(libc.prctl(23, n, 0, 0, 0) == 1 for n in range(64)); "
    "says = f\"{count(d[0]) + count(d[3])} effective; {bounding} bounding; no_new_privs {'set' if libc.prctl(39, 0, 0, 0, 0) else 'not set'}\""
)


def by_root(peer, command):
    """Started by root, and told to run the command as uid 1000, as far as the program can be told."""
    if isinstance(peer, Bwrap):
        return ["bwrap", *peer.BARE, "--unshare-user", "--uid", "1000", "--gid", "1000", *command]
    if isinstance(peer, Landrun):
        return ["landrun", "--best-effort", "--unrestricted-filesystem", "--unrestricted-network", "--", *command]
    return peer.line([], command)


@row("The process", "started by root for uid 1000: who a file that the command makes belongs to")
def _(peer):
    os.chmod(C, 0o777)
    cell = told(run(by_root(peer, command([f"os.mkdir('{C}/made')"]))))
    if cell != "ok":
        return cell
    return f"{'no switch: ' if isinstance(peer, Landrun) else ''}{os.stat(f'{C}/made').st_uid}"


@row("The process", "its capabilities then")
def _(peer):
    return told(run(by_root(peer, command([CAPABILITIES]))))


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        below = [int(word) for word in file.read().split()]
    return [pid, *sum((children(child) for child in below), [])]


def name_of(pid):
    with open(f"/proc/{pid}/comm") as file:
        return file.read().strip()


@contextlib.contextmanager
def started(words, **more):
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, **more)
    try:
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{words} did not start")
        yield process
    finally:
        for pid in reversed(children(process.pid)) if process.poll() is None else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


WAITS = command(["print('ready', flush=True); signal.pause()"])


@row("The process", "who stays above the command, as uid")
def _(peer):
    def above(words):
        with started(words) as process:
            all = [(name_of(pid), os.stat(f"/proc/{pid}").st_uid) for pid in children(process.pid)]
        return " and ".join(f"{name} as {uid}" for name, uid in all if not name.startswith("python")) or "nobody"

    plain = above(by_root(peer, WAITS))
    if isinstance(peer, Stepdown):
        return f"{plain}; `--init`: " + above(peer.line(["--init"], WAITS))
    if isinstance(peer, Bwrap):
        return f"{plain}; `--unshare-pid`: " + above(["bwrap", "--unshare-pid", *by_root(peer, WAITS)[1:]])
    return plain


@row("The process", "SIGTERM to what was started: the command's handler runs")
def _(peer):
    lines = ["signal.signal(15, lambda *_: os._exit(7)); print('ready', flush=True); signal.pause()"]
    with started(peer.line(Bwrap.BARE if isinstance(peer, Bwrap) else free(peer), command(lines))) as process:
        process.terminate()
        try:
            return "yes" if process.wait(5) == 7 else "no"
        except subprocess.TimeoutExpired:
            return "no"


def free(peer):
    return ["--unrestricted-filesystem", "--unrestricted-network"] if isinstance(peer, Landrun) else []


@row("The process", "the same as PID 1, to a command without a handler: it ends")
def _(peer):
    words = ["--init"] if isinstance(peer, Stepdown) else Bwrap.BARE if isinstance(peer, Bwrap) else free(peer)
    lines = ["signal.signal(15, 0); print('ready', flush=True); signal.pause()"]
    line = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--", *peer.line(words, command(lines))]
    with started(line) as process:
        os.kill(children(process.pid)[1], signal.SIGTERM)
        try:
            process.wait(3)
            return "yes" + (", under `--init`" if isinstance(peer, Stepdown) else "")
        except subprocess.TimeoutExpired:
            return "no"


@row("The process", "in a root shell's terminal: `ioctl(TIOCSTI)`, `tcsetpgrp` (job control)")
def _(peer):
    lines = [
        "fcntl.ioctl(0, 0x5412, b'x')",
        "signal.signal(signal.SIGTTOU, signal.SIG_IGN); os.tcsetpgrp(0, os.getpgrp())",
    ]
    if isinstance(peer, Bwrap):
        return f"{typing(peer.line(peer.BARE, command(lines)))}; `--new-session`: " + typing(
            peer.line([*peer.BARE, "--new-session"], command(lines))
        )
    return typing(peer.line(free(peer), command(lines)))


def typing(words):
    """Below a shell that shares its terminal, and leads its session."""
    pid, terminal = pty.fork()
    if pid == 0:
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
        os.write(1, f"<{told(done)}>".encode())
        os._exit(0)
    said = b""
    with contextlib.suppress(OSError):
        while select.select([terminal], [], [], 20)[0] and (more := os.read(terminal, 4096)):
            said += more
    os.close(terminal)
    os.waitpid(pid, 0)
    return re.search(rb"<(.*)>", said)[1].decode()


@row("The process", "HOME and a TOKEN in root's environment, HOME=/root before")
def _(peer):
    words = {**os.environ, "HOME": "/root", "TOKEN": "t"}
    return told(run(by_root(peer, command(["says = '%s, TOKEN %s' % (os.environ.get('HOME', 'no HOME'), 'there' if 'TOKEN' in os.environ else 'gone')"])), env=words))


@row("The process", "exit code of a command that is not there")
def _(peer):
    return str(run(by_root(peer, ["/usr/bin/none"])).returncode)


# --- Kernels that know less


def lacks(peer, fault, words):
    """How it goes on where the kernel's answer is another: strace gives it."""
    line = ["strace", "-f", "-qqq", "-o", "/dev/null", "-e", "trace=landlock_create_ruleset", "-e", f"inject=landlock_create_ruleset:{fault}"]
    done = run([*line, *words])
    if done.returncode:
        return f"refused ({done.returncode})"
    return "runs, warns" if done.stderr else "runs, silent"


def strict_and_best(peer, fault):
    # setpriv asks for all rights that it knows, whatever the kernel has, which says this to those that it does not know.
    fault = "error=EINVAL" if isinstance(peer, Setpriv) and "retval" in fault else fault
    ran = ["/usr/bin/true"]
    if isinstance(peer, Landrun):
        words = ["landrun", *peer.system()]
        return f"{lacks(peer, fault, [*words, *ran])}; `--best-effort`: " + lacks(peer, fault, [words[0], "--best-effort", *words[1:], *ran])
    if isinstance(peer, Stepdown):
        words = peer.system()
        return f"{lacks(peer, fault, peer.line(words, ran))}; `--best-effort`: " + lacks(peer, fault, peer.line(["--best-effort", *words], ran))
    return lacks(peer, fault, peer.line(peer.system(), ran)) if isinstance(peer, Setpriv) else "needs no Landlock"


@row("Kernels that know less", "files to confine, and Landlock is of ABI 3")
def _(peer):
    return strict_and_best(peer, "retval=3:when=1")


@row("Kernels that know less", "files to confine, and there is no Landlock")
def _(peer):
    return strict_and_best(peer, "error=EOPNOTSUPP")


def table(names):
    peers = [PEERS[name]() for name in names]
    heads = [peer.head() for peer in peers]
    serve = socket.create_server(("127.0.0.1", 9999), backlog=64)
    out = []
    for section, title, cell in ROWS:
        cells = {}
        for peer, head in zip(peers, heads):
            fresh()
            cells[head] = cell(peer)
        out.append([section, title, cells])
    serve.close()
    return out


def cost(names, rounds=300):
    """What each adds to the start of one tiny static program: of the median and of the tenth percentile, in µs."""
    target = ["/usr/bin/busybox", "true"] if os.path.exists("/usr/bin/busybox") else ["/bin/busybox", "true"]
    lines = {"alone": target}
    for peer in (PEERS[name]() for name in names):
        if isinstance(peer, Stepdown):
            lines["stepdown"] = peer.line([], target)
            lines["stepdown, files"] = peer.line(peer.system(), target)
            lines["stepdown, files, a port, scope"] = peer.line([*peer.system(), "--bind-tcp", "80", "--scope"], target)
            lines["stepdown, --seccomp service"] = peer.line(["--seccomp", "service"], target)
        elif isinstance(peer, Setpriv):
            lines["setpriv"] = peer.line([], target)
            lines["setpriv, files"] = peer.line(peer.system(), target)
        elif isinstance(peer, Landrun):
            lines["landrun, files (no switch)"] = ["landrun", "--best-effort", *peer.system(), *target]
        else:
            lines["bwrap, files (no switch)"] = ["bwrap", *peer.system(), *target]
    times = {name: [] for name in lines}
    order = list(lines)
    for turn in range(rounds):
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            before = time.perf_counter()
            pid = os.posix_spawn(shutil.which(lines[name][0]), lines[name], os.environ)
            code = os.waitpid(pid, 0)[1]
            times[name].append(time.perf_counter() - before)
            assert code == 0, (name, code)
    sizes = {name: os.path.getsize(shutil.which(PEERS[name].program)) for name in names}
    middle = {name: [statistics.median(all), statistics.quantiles(all, n=10)[0]] for name, all in times.items()}
    rows = [[name, *(round((time - alone) * 1e6) for time, alone in zip(both, middle["alone"]))] for name, both in middle.items()]
    return rows[1:], sizes


def main():
    names = sys.argv[1:]
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    os.chdir("/")
    json.dump(cost(names[1:]) if names[:1] == ["--cost"] else table(names), sys.stdout, indent=1)


main()
