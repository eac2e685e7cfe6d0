//! Unmodified Node programs on the sockets that stepdown hands them, by the preload examples/node/listen-fds.cjs.
//! Every program of tests/fixtures/node is run by each Node that it is promised for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::cases;
use crate::harness::{self, Case, Need, Outcome, Stop};
use crate::jail::{Jail, Ran};

pub fn cases() -> Vec<Case> {
    cases![
        without_the_preload_port_80_is_refused,
        a_descriptor_is_listened_on_by_its_number,
        http_takes_port_80,
        https_takes_port_443,
        net_takes_port_80,
        http2_takes_port_443_and_80,
        an_es_module_takes_port_80,
        express_takes_port_80,
        fastify_takes_port_80_on_every_host_it_is_told,
        fastifys_localhost_is_two_sockets,
        koa_takes_port_80,
        a_clusters_workers_share_the_primarys_sockets,
        a_cluster_of_one_worker_listens_again_when_it_was_started_anew,
        unix_sockets_are_taken_by_path_and_by_abstract_name,
        every_form_of_listen_takes_the_socket_of_exactly_its_address,
        children_and_threads_take_nothing,
        variables_that_name_another_process_are_not_believed,
    ]
}

/// All Nodes that the preload is for, by their major number.
const MAJORS: [u32; 5] = [18, 20, 22, 24, 26];

/// Which Nodes a program is for.
const ALL: u32 = 18;

/// The frameworks and the Nodes, installed at the first run and kept among what cargo built.
fn installed() -> Result<&'static Path, Stop> {
    static INSTALLED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    harness::root()?;
    Need::Node.programs(&["npm", "curl", "ip", "openssl", "flock"])?;
    let install = || {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-images").join("node-programs");
        let script = source("scripts/make-node-programs");
        let ran = Ran::of(Command::new(script).arg(&directory).output().map_err(|error| error.to_string())?);
        if ran.code == 0 { Ok(directory) } else { Err(format!("scripts/make-node-programs: {}", ran.stderr)) }
    };
    INSTALLED.get_or_init(install).as_deref().map_err(|why| Need::Node.missing(why))
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A jail with the programs in it, a private network whose ports below 1024 are privileged, and a `/run` of node's.
struct Lab {
    jail: Jail,
    app: PathBuf,
}

impl Lab {
    fn new() -> Result<Self, Stop> {
        let installed = installed()?;
        let jail = Jail::new()?.network();
        let app = jail.work().join("app");
        fs::create_dir(&app)?;
        let bind = |from: &Path, to: &str| format!("mount --bind '{}' $W/app{to}", from.display());
        let jail = jail
            .setup(&bind(installed, ""))
            .setup(&bind(&source("tests/fixtures/node"), "/programs"))
            .setup(&bind(&source("examples/node"), "/examples"))
            .setup("printf '127.0.0.1 localhost four\n::1 localhost\n' >$W/hosts; mount --bind $W/hosts /etc/hosts")
            .setup("mount -t tmpfs -o mode=755,uid=1000 tmpfs /run");
        Ok(Self { jail, app })
    }

    /// With the preload, given as people give it.
    fn preloaded() -> Result<Self, Stop> {
        let lab = Self::new()?;
        let preload = format!("--require={}", lab.app.join("examples/listen-fds.cjs").display());
        Ok(Self { jail: lab.jail.variable("NODE_OPTIONS", preload), app: lab.app })
    }

    /// A line of shell before stepdown.
    fn setup(self, line: &str) -> Self {
        Self { jail: self.jail.setup(line), app: self.app }
    }

    /// The words of a run of `PROGRAM ARGUMENTS...` by the Node of this major number.
    fn line(&self, major: u32, options: &[&str], program: &[&str]) -> Vec<String> {
        let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
        let node = self.app.join(format!("node_modules/node-{major}-{machine}/bin/node")).display().to_string();
        let options = options.iter().map(|&option| option.to_owned());
        let program = program.iter().enumerate().map(|(index, word)| match index {
            0 => self.app.join("programs").join(word).display().to_string(),
            _ => (*word).to_owned(),
        });
        options.chain(["node:node".into(), "--".into(), node]).chain(program).collect()
    }

    /// Runs a program to its end.
    fn run(&self, major: u32, options: &[&str], program: &[&str]) -> Result<Ran, Stop> {
        self.jail.run(&self.line(major, options, program))
    }
}

/// Asks in the background, patiently, with one curl after the other, and ends the program with SIGTERM.
fn asking(lab: Lab, questions: &[&str]) -> Lab {
    let ask = "ask() { for n in $(seq 100); do curl -skS --max-time 3 \"$@\" >$W/answer 2>>$W/errors && break; sleep 0.05; done; \
         cat $W/answer; echo; }";
    let all: Vec<String> = questions.iter().map(|question| format!("ask {question}")).collect();
    lab.setup(ask).setup(&format!("( {}; kill -TERM 1 ) >$W/answers 2>>$W/errors &", all.join("; ")))
}

/// What a program answered to curl, one line each.
fn answers(lab: Lab, major: u32, options: &[&str], program: &[&str], questions: &[&str]) -> Result<Vec<Value>, Stop> {
    let lab = asking(lab, questions);
    let ran = lab.run(major, options, program)?;
    let text = fs::read_to_string(lab.jail.at("answers"))?;
    let errors = fs::read_to_string(lab.jail.at("errors"))?;
    let read: Result<Vec<Value>, _> = text.lines().filter(|line| !line.is_empty()).map(serde_json::from_str).collect();
    match read {
        Ok(values) if values.len() == questions.len() && ran.code == 0 => Ok(values),
        _ => Err(Stop::Fail(format!("Node {major}, {program:?}: {ran:?}; the answers: {text:?}; curl: {errors:?}"))),
    }
}

/// Asserts that it is node, with nothing in any set, and that the variables are gone with the sockets.
#[track_caller]
fn harmless(answer: &Value) {
    assert_eq!(answer["uid"], 1000, "{answer}");
    assert_eq!(answer["sets"], json!(vec!["0000000000000000"; 5]), "{answer}");
    assert_eq!(answer["noNewPrivs"], true, "{answer}");
}

/// The program, in each Node from this major number on, answers every question as node.
fn serves(from: u32, options: &[&str], program: &[&str], questions: &[&str]) -> Outcome {
    for major in MAJORS.into_iter().filter(|&major| major >= from) {
        for answer in answers(Lab::preloaded()?, major, options, program, questions)? {
            harmless(&answer);
            assert_eq!(answer["pid"], 1, "{answer}");
            assert_eq!(answer["variables"], json!([]), "{answer}");
        }
    }
    Ok(())
}

const BOTH_FAMILIES: [&str; 2] = ["http://127.0.0.1/", "http://[::1]/"];

fn without_the_preload_port_80_is_refused() -> Outcome {
    for program in [&["http.cjs"][..], &["fastify.cjs", "fastify"], &["net.cjs"]] {
        let ran = Lab::new()?.run(20, &["--listen", "80"], program)?;
        assert!(ran.code == 1 && ran.stderr.contains("EACCES"), "{program:?}: {ran:?}");
    }
    let ran = Lab::preloaded()?.run(20, &["--listen", "81"], &["http.cjs"])?;
    assert!(ran.code == 1 && ran.stderr.contains("EACCES"), "of another port: {ran:?}");
    Ok(())
}

/// The recipe that needs no preload, and names: what the preload leaves alone.
fn a_descriptor_is_listened_on_by_its_number() -> Outcome {
    for lab in [Lab::new, Lab::preloaded] {
        let lab = lab()?.setup("export DATA_DIR=/nonexistent");
        let options = ["--listen", "metrics=9090", "--listen", "http=80"];
        for answer in answers(lab, 20, &options, &["../examples/server.js"], &BOTH_FAMILIES)? {
            assert_eq!(
                (&answer["pid"], &answer["uid"], &answer["CapBnd"]),
                (&json!(1), &json!(1000), &json!("0000000000000000"))
            );
        }
    }
    let ran = Lab::new()?.run(20, &["--listen", "udp:53"], &["dgram.cjs"])?;
    let expected = json!({"address": "::", "family": "IPv6", "port": 53});
    assert_eq!((ran.code, serde_json::from_str::<Value>(&ran.stdout)?), (0, expected), "{ran:?}");
    Ok(())
}

fn http_takes_port_80() -> Outcome {
    serves(ALL, &["--listen", "80"], &["http.cjs"], &BOTH_FAMILIES)?;
    serves(ALL, &["--listen", "0.0.0.0:80"], &["http.cjs"], &BOTH_FAMILIES[..1])?;
    serves(ALL, &["--listen", "443", "--listen", "other=80", "--listen", "udp:80"], &["http.cjs"], &BOTH_FAMILIES)
}

/// A key that node may read, made by openssl in the jail.
fn certified(lab: Lab) -> Lab {
    let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
        -keyout $W/tls.key -out $W/tls.crt 2>/dev/null";
    lab.setup(make).setup("chown 1000 $W/tls.key; export TLS_KEY=$W/tls.key TLS_CERT=$W/tls.crt")
}

fn https_takes_port_443() -> Outcome {
    for major in MAJORS {
        let questions = ["--cacert $W/tls.crt https://localhost/", "https://[::1]/"];
        answers(certified(Lab::preloaded()?), major, &["--listen", "443"], &["https.cjs"], &questions)?.iter().for_each(harmless);
    }
    Ok(())
}

fn net_takes_port_80() -> Outcome {
    serves(ALL, &["--listen", "80"], &["net.cjs"], &BOTH_FAMILIES)
}

fn http2_takes_port_443_and_80() -> Outcome {
    for major in MAJORS {
        let questions = ["--http2 https://127.0.0.1/", "--http2-prior-knowledge http://127.0.0.1/"];
        let options = ["--listen", "443", "--listen", "80"];
        answers(certified(Lab::preloaded()?), major, &options, &["http2.cjs"], &questions)?.iter().for_each(harmless);
    }
    Ok(())
}

fn an_es_module_takes_port_80() -> Outcome {
    serves(ALL, &["--listen", "80"], &["esm.mjs"], &BOTH_FAMILIES)
}

fn express_takes_port_80() -> Outcome {
    serves(ALL, &["--listen", "80"], &["express.cjs", "express"], &BOTH_FAMILIES)?;
    serves(ALL, &["--listen", "80"], &["express.cjs", "express-4"], &BOTH_FAMILIES)
}

fn fastify_takes_port_80_on_every_host_it_is_told() -> Outcome {
    // Fastify 5 is for Node 20 and later.
    for (package, from) in [("fastify", 20), ("fastify-4", ALL)] {
        serves(from, &["--listen", "80"], &["fastify.cjs", package, "::"], &BOTH_FAMILIES)?;
        // What its documentation has for containers; the socket of both families covers it.
        serves(from, &["--listen", "80"], &["fastify.cjs", package, "0.0.0.0"], &BOTH_FAMILIES[..1])?;
    }
    Ok(())
}

fn fastifys_localhost_is_two_sockets() -> Outcome {
    let options = ["--listen", "127.0.0.1:80", "--listen", "[::1]:80"];
    for (package, from) in [("fastify", 20), ("fastify-4", ALL)] {
        serves(from, &options, &["fastify.cjs", package], &BOTH_FAMILIES)?;
    }
    // Who asks for localhost is not put on every address.
    let ran = Lab::preloaded()?.run(20, &["--listen", "80"], &["fastify.cjs", "fastify"])?;
    assert!(ran.code == 1 && ran.stderr.contains("EACCES"), "{ran:?}");
    Ok(())
}

fn koa_takes_port_80() -> Outcome {
    serves(ALL, &["--listen", "80"], &["koa.cjs"], &BOTH_FAMILIES)
}

const POLICIES: [&str; 2] = ["SCHED_RR", "SCHED_NONE"];
const TWO_PORTS: [&str; 4] = ["--listen", "80", "--listen", "127.0.0.1:81"];

/// A question that comes after the worker that got another one has crashed.
const CRASH: &str = "http://127.0.0.1/ -o /dev/null; curl -s --max-time 3 http://127.0.0.1/crash || :; ask http://127.0.0.1/ ";

fn a_clusters_workers_share_the_primarys_sockets() -> Outcome {
    for (major, policy) in MAJORS.into_iter().flat_map(|major| POLICIES.map(|policy| (major, policy))) {
        // In the end one worker crashes, and another takes its place.
        let questions = [&["http://127.0.0.1/", "http://[::1]/", "http://127.0.0.1:81/"][..], &["http://127.0.0.1/"; 5]].concat();
        let said =
            answers(Lab::preloaded()?, major, &TWO_PORTS, &["cluster.cjs", policy, "2"], &[&questions[..], &[CRASH]].concat())?;
        for answer in &said {
            harmless(answer);
            assert!(answer["pid"] != 1 && answer["worker"].is_number(), "{answer}");
        }
        assert_eq!(said[2]["port"], 81, "{said:?}");
    }
    Ok(())
}

fn a_cluster_of_one_worker_listens_again_when_it_was_started_anew() -> Outcome {
    for (major, policy) in MAJORS.into_iter().flat_map(|major| POLICIES.map(|policy| (major, policy))) {
        let other = CRASH.replace("//127.0.0.1/ ", "//127.0.0.1:81/ ");
        let questions = ["http://127.0.0.1/", CRASH, &other];
        let said = answers(Lab::preloaded()?, major, &TWO_PORTS, &["cluster.cjs", policy, "1"], &questions)?;
        said.iter().for_each(harmless);
        let workers: Vec<&Value> = said.iter().map(|answer| &answer["worker"]).collect();
        assert_eq!(workers, [&json!(1), &json!(2), &json!(3)], "Node {major}, {policy}: {said:?}");
    }
    Ok(())
}

fn unix_sockets_are_taken_by_path_and_by_abstract_name() -> Outcome {
    let options = ["--listen", "/run/app.sock", "--listen", "@stepdown-test-node"];
    let questions = ["--unix-socket /run/app.sock http://x/", "--abstract-unix-socket stepdown-test-node http://x/"];
    // Root's, so that the program itself could make no socket there.
    for major in MAJORS {
        let lab = Lab::preloaded()?.setup("chown 0 /run");
        answers(lab, major, &options, &["unix.cjs"], &questions)?.iter().for_each(harmless);
    }
    Ok(())
}

fn every_form_of_listen_takes_the_socket_of_exactly_its_address() -> Outcome {
    let addresses = ["90", "81", "127.0.0.1:82", "[::1]:83", "84", "127.0.0.1:85", "86", "87", "88", "0.0.0.0:89"]
        .map(|address| ["--listen", address]);
    for major in MAJORS {
        // As a service manager does that is told BindIPv6Only=ipv6-only.
        let lab = Lab::preloaded()?.setup("echo 1 >/proc/sys/net/ipv6/bindv6only");
        let options = [addresses.as_flattened(), &["--listen", "[::]:89"]].concat();
        let ran = lab.run(major, &options, &["forms.cjs"])?;
        let said: Value = serde_json::from_str(&ran.stdout).map_err(|error| Stop::Fail(format!("{error}: {ran:?}")))?;
        let served = |address: &str, port: u32| json!({"address": address, "port": port, "said": "served"});
        let refused = |port: u32| json!({"error": "EACCES", "port": port});
        for (form, expected) in [
            ("port, callback", served("::", 81)),
            ("port, host", served("127.0.0.1", 82)),
            ("port, host, backlog", served("::1", 83)),
            ("port, backlog", served("::", 84)),
            ("a name", served("127.0.0.1", 85)),
            ("options", served("::", 86)),
            ("a signal", served("::", 87)),
            ("fd", served("::", 90)),
            ("another port", refused(99)),
            ("another address", refused(88)),
            ("IPv6 alone", refused(88)),
            ("a port of our own", served("127.0.0.1", 8080)),
            ("IPv4 beside IPv6", served("0.0.0.0", 89)),
            ("IPv6 beside IPv4", served("::", 89)),
            ("again", refused(81)),
        ] {
            assert_eq!(said[form], expected, "Node {major}, {form}: {said}");
        }
        assert_eq!((ran.code, &said["any port"]["said"]), (0, &json!("served")), "{ran:?}");
    }
    Ok(())
}

fn children_and_threads_take_nothing() -> Outcome {
    for major in MAJORS {
        let ran = Lab::preloaded()?.run(major, &["--listen", "80"], &["descendants.cjs"])?;
        let said: Value = serde_json::from_str(&ran.stdout).map_err(|error| Stop::Fail(format!("{error}: {ran:?}")))?;
        let nobody = |variables: &str| json!({"child": "EACCES", "thread": "EACCES", "variables": variables});
        let expected = json!({"before": nobody("LISTEN_FDNAMES,LISTEN_FDS,LISTEN_PID"), "own": "listens", "after": nobody("")});
        let mut sorted = said.clone();
        let names = said["before"]["variables"].as_str().unwrap_or_default();
        let mut names: Vec<&str> = names.split(',').collect();
        names.sort_unstable();
        sorted["before"]["variables"] = names.join(",").into();
        assert_eq!((ran.code, sorted), (0, expected), "Node {major}: {ran:?}");
    }
    Ok(())
}

fn variables_that_name_another_process_are_not_believed() -> Outcome {
    for tweak in ["LISTEN_PID=2", "LISTEN_PID=", "LISTEN_PID=01", "LISTEN_FDS=0", "LISTEN_FDS=x", "LISTEN_FDS="] {
        // The socket is there all the same: --keep-fd would hand it on without the protocol, env tells lies of it.
        let lab = Lab::preloaded()?;
        let line = lab.line(20, &["--listen", "80"], &["http.cjs"]);
        let split = line.iter().position(|word| word == "--").unwrap_or_default() + 1;
        let words = [&line[..split], &["env".to_owned(), tweak.to_owned()], &line[split..]].concat();
        let ran = lab.jail.run(&words)?;
        assert!(ran.code == 1 && ran.stderr.contains("EACCES"), "{tweak}: {ran:?}");
    }
    Ok(())
}
