//! A Docker engine of the tests' own, in a mount, a network and a PID namespace of its own: it changes nothing
//! of the machine, and nothing of it is left when they are gone. Its images stay in the target directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use crate::harness::{self, Need, Outcome, Stop};
use crate::jail::{Ran, open_directory, programs};

/// Built from Dockerfile.example.
const EXAMPLE: &str = "stepdown-example";

/// Built from examples/node/https/Dockerfile, on top of it.
pub const HTTPS: &str = "stepdown-https";

/// What the containers are below in every cgroup hierarchy.
const CGROUP: &str = "stepdown-test";

/// How long anything may take that takes a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running engine. Stopped when the last test that uses it is done.
pub struct Engine {
    directory: tempfile::TempDir,
    /// The `unshare` above dockerd: where it ends, all in the namespaces is killed.
    supervisor: u32,
    supervision: Option<JoinHandle<()>>,
    /// PID 1 of the namespace, by its number out here.
    dockerd: u32,
    _only_one: Flock<File>,
}

impl Engine {
    /// The one that runs, or a new one with all images. Skips the test where this machine can't have it.
    pub fn running() -> Result<Arc<Self>, Stop> {
        static ENGINE: Mutex<Weak<Engine>> = Mutex::new(Weak::new());
        let mut engine = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = engine.upgrade() {
            return Ok(running);
        }
        harness::root()?;
        Need::Container.programs(&["docker", "dockerd", "containerd", "runc", "script", "nsenter", "chroot"])?;
        let images = images()?;
        let started = Arc::new(Self::start_in(&images)?);
        started.clear()?;
        started.build(&images)?;
        started.check_binary()?;
        *engine = Arc::downgrade(&started);
        Ok(started)
    }

    fn start_in(images: &Path) -> Result<Self, Stop> {
        let data = images.join("engine");
        fs::create_dir_all(&data)?;
        // Two engines can't share the images; who comes second waits.
        let lock = Flock::lock(File::create(images.join("engine.lock"))?, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
        let directory = open_directory();
        let (supervisor, supervision) = supervise(dockerd(directory.path(), &data)?)?;
        let mut engine = Self { directory, supervisor, supervision: Some(supervision), dockerd: supervisor, _only_one: lock };
        engine.wait_until_it_answers()?;
        Ok(engine)
    }

    fn wait_until_it_answers(&mut self) -> Outcome {
        let since = Instant::now();
        while self.docker(&["version"])?.code != 0 {
            let ended = self.supervision.as_ref().is_none_or(JoinHandle::is_finished);
            if ended || since.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.directory.path().join("log"))?;
                let tail: Vec<&str> = log.lines().rev().take(3).collect();
                return Err(Need::Container.missing(format!("dockerd does not start here: {}", tail.join(" | "))));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.supervisor))?;
        self.dockerd = children.trim().parse()?;
        Ok(())
    }

    /// Removes the containers of a run that was killed.
    fn clear(&self) -> Outcome {
        for container in self.docker(&["ps", "--all", "--quiet"])?.stdout.lines() {
            self.must(&["rm", "--force", "--volumes", container])?;
        }
        Ok(())
    }

    /// The bases, where they changed, and Dockerfile.example as it stands. What did not change comes from the
    /// engine's cache; the tag on the first stage keeps it there.
    fn build(&self, images: &Path) -> Outcome {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        self.import(images, "node-20-bookworm", "node:20-bookworm", &format!("PATH={path}"))?;
        let rust = format!("RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:{path}");
        self.import(images, "rust-1-slim", "rust:1-slim", &format!("{rust} CARGO_NET_OFFLINE=true"))?;
        let build = ["build", "--network=none", "--file=Dockerfile.example"];
        self.must(&[&build[..], &["--target=build", "--tag=stepdown-example-build", "."]].concat())?;
        self.must(&[&build[..], &["--tag", EXAMPLE, "."]].concat())?;
        let https = ["build", "--network=none", "--file=examples/node/https/Dockerfile"];
        self.must(&[&https[..], &["--build-arg", &format!("STEPDOWN_IMAGE={EXAMPLE}"), "--tag", HTTPS, "."]].concat())?;
        self.must(&["image", "prune", "--force"]).map(drop)
    }

    fn import(&self, images: &Path, name: &str, tag: &str, environment: &str) -> Outcome {
        let made_of = fs::read_to_string(images.join(format!("{name}.made-of")))?;
        let label = "{{index .Config.Labels \"made-of\"}}";
        if self.docker(&["image", "inspect", "--format", label, tag])?.stdout.trim() == made_of.trim() {
            return Ok(());
        }
        let (environment, label) = (format!("ENV {environment}"), format!("LABEL made-of=\"{}\"", made_of.trim()));
        let tar = images.join(format!("{name}.tar")).display().to_string();
        self.must(&["import", "--change", &environment, "--change", &label, &tar, tag]).map(drop)
    }

    /// A debug build for a newer glibc than the image has can't be tried in it.
    fn check_binary(&self) -> Outcome {
        let ran = self.run(&["--entrypoint=stepdown".into()], &["--version"])?;
        if ran.code == 0 {
            return Ok(());
        }
        Err(Need::Container.missing(format!("the binary does not start in the image; set STEPDOWN_BIN to a static one: {ran:?}")))
    }

    /// `docker ARGUMENTS...`, from the top of the source tree.
    pub fn docker(&self, arguments: &[&str]) -> Result<Ran, Stop> {
        Ok(Ran::of(self.client("docker").args(arguments).output()?))
    }

    fn must(&self, arguments: &[&str]) -> Result<String, Stop> {
        let ran = self.docker(arguments)?;
        if ran.code == 0 { Ok(ran.stdout) } else { Err(Stop::Fail(format!("docker {arguments:?}: {ran:?}"))) }
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // The classic builder: the other one asks a registry for its own parts.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("DOCKER_BUILDKIT", "0");
        command.env("DOCKER_HOST", self.socket()).env("DOCKER_CONFIG", self.directory.path()).env("TERM", "dumb");
        command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
        command
    }

    fn socket(&self) -> String {
        format!("unix://{}/docker.sock", self.directory.path().display())
    }

    /// The words of a `docker run` of the example, in which the binary under test stands for the built one.
    pub fn run_line(&self, options: &[String], command: &[&str]) -> Vec<String> {
        self.run_line_of(EXAMPLE, options, command)
    }

    fn run_line_of(&self, image: &str, options: &[String], command: &[&str]) -> Vec<String> {
        let mount = format!("--volume={}:/usr/local/bin/stepdown:ro", programs().stepdown.display());
        let mut line = vec!["run".to_owned(), "--rm".into(), "--network=none".into(), mount];
        line.extend(options.iter().cloned());
        line.push(image.into());
        line.extend(command.iter().map(|&word| word.to_owned()));
        line
    }

    /// Runs the example with another command to its end; without one, it is the image's own.
    pub fn run(&self, options: &[String], command: &[&str]) -> Result<Ran, Stop> {
        let line = self.run_line(options, command);
        self.docker(&line.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// `docker LINE...` on a terminal of its own, whose output is in stdout.
    pub fn on_a_terminal(&self, line: &[String]) -> Result<Ran, Stop> {
        let quoted: Vec<String> = line.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
        let line = format!("docker {}", quoted.join(" "));
        let mut script = self.client("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        let mut running = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // Nothing is typed, but the end of it would be: it reads as ^D, and shows.
        let typing = running.stdin.take();
        let ran = Ran::of(running.wait_with_output()?);
        drop(typing);
        Ok(ran)
    }

    /// Starts the example, with the binary under test.
    pub fn start(self: &Arc<Self>, options: &[String]) -> Result<Container, Stop> {
        self.start_image(EXAMPLE, options)
    }

    /// Starts the example with another command.
    pub fn start_with(self: &Arc<Self>, options: &[String], command: &[&str]) -> Result<Container, Stop> {
        self.detached(&self.run_line(options, command))
    }

    /// Starts another image, with the binary under test.
    pub fn start_image(self: &Arc<Self>, image: &str, options: &[String]) -> Result<Container, Stop> {
        self.detached(&self.run_line_of(image, options, &[]))
    }

    fn detached(self: &Arc<Self>, line: &[String]) -> Result<Container, Stop> {
        let words = line.iter().map(String::as_str).map(|word| if word == "--rm" { "--detach" } else { word });
        self.started(&words.collect::<Vec<_>>())
    }

    /// Starts the example with nothing put into the image that was built.
    pub fn start_as_built(self: &Arc<Self>, options: &[String]) -> Result<Container, Stop> {
        let options = options.iter().map(String::as_str);
        self.started(&["run", "--detach", "--network=none"].into_iter().chain(options).chain([EXAMPLE]).collect::<Vec<_>>())
    }

    fn started(self: &Arc<Self>, line: &[&str]) -> Result<Container, Stop> {
        Ok(Container { id: self.must(line)?.trim().to_owned(), engine: Arc::clone(self) })
    }

    /// An empty named volume.
    pub fn volume(self: &Arc<Self>) -> Result<NamedVolume, Stop> {
        Ok(NamedVolume { name: self.must(&["volume", "create"])?.trim().to_owned(), engine: Arc::clone(self) })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        signal("TERM", self.dockerd);
        let since = Instant::now();
        while self.supervision.as_ref().is_some_and(|thread| !thread.is_finished()) {
            if since.elapsed() > PATIENCE {
                signal("KILL", self.supervisor);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.supervision.take().map(JoinHandle::join);
        remove_cgroups();
    }
}

fn signal(name: &str, pid: u32) {
    let _ = Command::new("sh").args(["-c", &format!("kill -s {name} {pid}")]).stderr(Stdio::null()).status();
}

/// What dockerd leaves empty in every cgroup hierarchy, and a killed one of its containers' too. One that is in
/// use can't be removed.
fn remove_cgroups() {
    let below = |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in below(Path::new("/sys/fs/cgroup")) {
        let parent = hierarchy.join(CGROUP);
        for container in below(&parent).filter(|path| path.is_dir()) {
            let _ = fs::remove_dir(container);
        }
        let _ = fs::remove_dir(parent);
    }
    let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(CGROUP));
}

fn dockerd(directory: &Path, data: &Path) -> Result<Command, Stop> {
    let log = File::create(directory.join("log"))?;
    let at = |name: &str| directory.join(name).display().to_string();
    let mut command = Command::new("setpriv");
    // Killed with the thread that starts it, and its namespaces with it, however the tests end.
    command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]);
    command.args(["--userland-proxy=false", "--cgroup-parent", &format!("/{CGROUP}")]);
    command.arg("--data-root").arg(data).args(["--exec-root", &at("exec"), "--pidfile", &at("pid")]);
    command.args(["--host", &format!("unix://{}", at("docker.sock"))]);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

/// Starts it in a thread that lives as long as it does: the parent-death signal comes when the thread ends.
fn supervise(mut command: Command) -> Result<(u32, JoinHandle<()>), Stop> {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || match command.spawn() {
        Ok(mut child) => {
            let _ = sender.send(Ok(child.id()));
            let _ = child.wait();
        }
        Err(error) => drop(sender.send(Err(error))),
    });
    Ok((receiver.recv()??, thread))
}

/// Where the base images are, as tar files, and the engine's data. The script makes what is missing.
fn images() -> Result<PathBuf, Stop> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-images");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/make-test-images");
    let ran = Ran::of(Command::new(script).arg(&directory).stdin(Stdio::null()).output()?);
    if ran.code == 0 { Ok(directory) } else { Err(Need::Container.missing(ran.stderr)) }
}

/// A container, removed at the end of the test.
pub struct Container {
    engine: Arc<Engine>,
    id: String,
}

/// A process in a container, as seen from outside.
pub struct Process {
    pub name: String,
    /// /proc/PID/status
    pub status: String,
}

/// Asks the server from within, as node, and patiently: before the chores are done nobody listens.
const ASK: &str = "
    const ask = () => fetch(process.argv[1]).then((response) => response.text(),
        () => new Promise((again) => setTimeout(again, 20)).then(ask));
    setTimeout(() => process.exit(1), 10000).unref();
    ask().then((text) => { process.stdout.write(text); process.exit(0); });
";

impl Container {
    /// Its id.
    pub fn name(&self) -> &str {
        &self.id
    }

    /// What the server on port 80 says of itself.
    pub fn answer(&self) -> Result<serde_json::Value, Stop> {
        self.answer_at("http://127.0.0.1:80/", &[])
    }

    /// What it says at a URL, to which it may redirect, asked with these options of `docker exec`.
    pub fn answer_at(&self, url: &str, options: &[&str]) -> Result<serde_json::Value, Stop> {
        let line = [&["exec", "--user=node"], options, &[&self.id, "node", "-e", ASK, url]].concat();
        let ran = self.engine.docker(&line)?;
        match serde_json::from_str(&ran.stdout) {
            Ok(answer) if ran.code == 0 => Ok(answer),
            _ => Err(Stop::Fail(format!("no answer: {ran:?}; log: {:?}", self.engine.docker(&["logs", &self.id])?))),
        }
    }

    /// All that runs in it, read in the engine's own PID namespace.
    pub fn processes(&self) -> Result<Vec<Process>, Stop> {
        let first = self.engine.must(&["inspect", "--format={{.State.Pid}}", &self.id])?;
        let proc = PathBuf::from(format!("/proc/{}/root/proc", self.engine.dockerd));
        let namespace = |of: &Path| fs::read_link(of.join("ns/pid"));
        let inside = namespace(&proc.join(first.trim()))?;
        let mut processes = Vec::new();
        for entry in fs::read_dir(&proc)?.flatten() {
            // Some have ended since they were listed, and most belong to no container.
            if !namespace(&entry.path()).is_ok_and(|its| its == inside) {
                continue;
            }
            if let Ok(status) = fs::read_to_string(entry.path().join("status")) {
                let name = status.lines().next().and_then(|line| line.strip_prefix("Name:\t")).unwrap_or_default();
                processes.push(Process { name: name.to_owned(), status });
            }
        }
        Ok(processes)
    }

    /// `docker stop`; the exit code.
    pub fn stop(&self) -> Result<i32, Stop> {
        self.engine.must(&["stop", &self.id])?;
        Ok(self.engine.must(&["inspect", "--format={{.State.ExitCode}}", &self.id])?.trim().parse()?)
    }

    /// `docker kill -s SIGNAL`
    pub fn signal(&self, signal: &str) -> Outcome {
        self.engine.must(&["kill", "-s", signal, &self.id]).map(drop)
    }

    /// What it has written to stdout, once this is in it.
    pub fn says(&self, what: &str) -> Result<String, Stop> {
        let since = Instant::now();
        loop {
            let log = self.engine.must(&["logs", &self.id])?;
            if log.contains(what) {
                return Ok(log);
            }
            if since.elapsed() > PATIENCE {
                return Err(Stop::Fail(format!("{what:?} is not in the log: {log:?}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a command in it as this user; its stdout.
    pub fn exec(&self, user: &str, command: &[&str]) -> Result<String, Stop> {
        self.engine.must(&[&["exec", "--user", user, &self.id], command].concat())
    }

    /// Copies a file of it to a path out here.
    pub fn copy_out(&self, from: &str, to: &Path) -> Outcome {
        self.engine.must(&["cp", "--archive", &format!("{}:{from}", self.id), &to.display().to_string()]).map(drop)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.engine.docker(&["rm", "--force", "--volumes", &self.id]);
    }
}

/// A named volume, removed at the end of the test.
pub struct NamedVolume {
    engine: Arc<Engine>,
    name: String,
}

impl NamedVolume {
    /// As `--volume` wants it.
    pub fn option(&self) -> String {
        format!("--volume={}:/data", self.name)
    }
}

impl Drop for NamedVolume {
    fn drop(&mut self) {
        let _ = self.engine.docker(&["volume", "rm", "--force", &self.name]);
    }
}
