//! The container, booted once, and what it left behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::units::{FILES, ONESHOTS, PROBE, PROBE_UNIT, READY, SERVER};
use crate::docker;
use crate::harness::{self, Need, Outcome, Stop};
use crate::jail::{self, Ran};
use crate::report::Report;

/// What a boot left behind.
pub struct Booted {
    /// What the units wrote, by the files' names.
    pub files: BTreeMap<String, String>,
    /// How the container ended.
    ran: Ran,
}

impl Booted {
    pub fn text(&self, file: &str) -> Result<&str, Stop> {
        let missing = || Stop::Fail(format!("no {file} in {:?}; the container: {:?}", self.files.keys(), self.ran));
        Ok(self.files.get(file).ok_or_else(missing)?.as_str())
    }

    /// What the command of a unit said it got.
    pub fn report(&self, unit: &str) -> Result<Report, Stop> {
        let text = self.text(&format!("{unit}.out"))?;
        let stderr = self.files.get(&format!("{unit}.err"));
        let no_report = |error| Stop::Fail(format!("{unit} made no report: {error}: {text:?}, {stderr:?}"));
        serde_json::from_str(text).map(Report).map_err(no_report)
    }

    /// `Result=` and `ExecMainStatus=` of a unit.
    pub fn result(&self, file: &str, unit: &str) -> Result<(String, i32), Stop> {
        let id = format!("Id={unit}.service");
        let text = self.text(file)?;
        let block = text.split("\n\n").find(|block| block.lines().any(|line| line == id));
        let value = |name: &str| block?.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let status = value("ExecMainStatus").and_then(|status| status.parse().ok());
        match (value("Result"), status) {
            (Some(result), Some(status)) => Ok((result.to_owned(), status)),
            _ => Err(Stop::Fail(format!("no result of {unit} in {text:?}"))),
        }
    }

    /// Asserts that a unit failed with this exit status, having said this.
    pub fn refused(&self, unit: &str, status: i32, said: &str) -> Outcome {
        let code = self.result("results", unit)?;
        let stderr = self.text(&format!("{unit}.err"))?.to_owned();
        let stdout = self.text(&format!("{unit}.out"))?.to_owned();
        assert_eq!(code, ("exit-code".to_owned(), status), "{unit}: {stderr}");
        assert_eq!(stdout, "", "{unit}: no command may have run");
        Ran { code: status, stdout, stderr }.refused(status, said);
        Ok(())
    }
}

/// Boots once, whichever case comes first.
pub fn boot() -> Result<&'static Booted, Stop> {
    static BOOTED: OnceLock<Result<Booted, String>> = OnceLock::new();
    harness::root()?;
    Need::Systemd.programs(&["systemd-nspawn", "mmdebstrap", "flock", "timeout", "openssl"])?;
    match BOOTED.get_or_init(|| root().and_then(|root| run(&root))) {
        Ok(booted) => Ok(booted),
        Err(why) => Err(Need::Systemd.missing(why)),
    }
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The root file system, made at the first run and kept among what cargo built.
fn root() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-images").join("systemd-root");
    let made = Command::new(source("scripts/make-systemd-root")).arg(&root).output().map_err(|error| error.to_string())?;
    if made.status.success() {
        Ok(root)
    } else {
        Err(format!("scripts/make-systemd-root: {}", String::from_utf8_lossy(&made.stderr)))
    }
}

/// Boots the root file system, which stays as it is, and collects what the units wrote.
fn run(root: &Path) -> Result<Booted, String> {
    let said = |error: std::io::Error| error.to_string();
    let directory = jail::open_directory();
    let at = |name: &str| directory.path().join(name);
    for name in ["units", "out", "app", "https", "tls"] {
        fs::create_dir(at(name)).map_err(said)?;
    }
    furnish(&at("units"), &at("app")).map_err(said)?;
    fs::copy(source("examples/node/https/server.js"), at("https").join("server.js")).map_err(said)?;
    docker::certificate(&at("tls")).map_err(|_| "openssl makes no certificate")?;
    let bind = |option: &str, from: &Path, to: &str| format!("--{option}={}:{to}", from.display());
    let programs = jail::programs();
    // The lock: with --keep-unit every container here is in the same cgroups, so one is booted at a time. The
    // time: what hangs is killed with all it started.
    let booted = Command::new("flock")
        .args(["--close", "/sys/fs/cgroup", "timeout", "--kill-after=5", "120"])
        .args(["systemd-nspawn", "--quiet", "--volatile=overlay", "--private-network", "--register=no", "--keep-unit"])
        .args(["--console=pipe", "--machine=stepdown-test", "--directory"])
        .arg(root)
        .arg(bind("bind-ro", &programs.stepdown, "/usr/local/bin/stepdown"))
        .arg(bind("bind-ro", &programs.report, "/usr/local/bin/report"))
        .arg(bind("bind-ro", &at("units"), "/etc/systemd/system"))
        .arg(bind("bind-ro", &at("app"), "/srv/app"))
        .arg(bind("bind-ro", &at("https"), "/srv/https"))
        .arg(bind("bind-ro", &at("tls"), "/etc/https"))
        .arg(bind("bind-ro", &source("examples/node/listen-fds.cjs"), "/usr/local/lib/listen-fds.cjs"))
        .arg(bind("bind", &at("out"), "/out"))
        .args(["--boot", "systemd.unit=probe.service"])
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(said)?;
    let ran = Ran::of(booted);
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(at("out")).map_err(said)?.flatten() {
        let content = String::from_utf8_lossy(&fs::read(entry.path()).map_err(said)?).into_owned();
        files.insert(entry.file_name().to_string_lossy().into_owned(), content);
    }
    match ran.code {
        9 => Err("stepdown or report does not run in the container: build them static, for a musl target".to_owned()),
        // From here on it is the cases' to judge.
        _ if files.contains_key("version") => Ok(Booted { files, ran }),
        _ => Err(format!("systemd does not boot here: {ran:?}")),
    }
}

/// Writes the units and the server; the examples are the files that are published.
fn furnish(units: &Path, app: &Path) -> std::io::Result<()> {
    for (name, service) in ONESHOTS {
        let unit = format!(
            "[Service]\nType=oneshot\nTimeoutStartSec=20\nStandardOutput=truncate:/out/{name}.out\nStandardError=truncate:/out/{name}.err\n{service}\n"
        );
        fs::write(units.join(format!("{name}.service")), unit)?;
    }
    for (name, unit) in FILES {
        fs::write(units.join(name), unit)?;
    }
    for name in ["app.service", "app.socket", "app-listen.service", "https.service"] {
        fs::copy(source("examples/systemd").join(name), units.join(name))?;
    }
    let names: Vec<String> = ONESHOTS.iter().map(|(name, _)| format!("{name}.service")).collect();
    fs::write(units.join("probe.sh"), format!("ONESHOTS='{}'\n{PROBE}", names.join(" ")))?;
    fs::write(units.join("probe.service"), PROBE_UNIT)?;
    fs::write(units.join("ready.js"), READY)?;
    match fs::read(source("examples/node/server.js")) {
        Ok(server) => fs::write(app.join("server.js"), server),
        Err(_) => fs::write(app.join("server.js"), SERVER),
    }
}
