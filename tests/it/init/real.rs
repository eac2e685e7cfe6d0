//! Real services: Node, npm, a shell pipeline, nginx, PostgreSQL.

use std::path::PathBuf;

use super::{ROLES, Running, children, until};
use crate::cases;
use crate::harness::{Case, Need, Outcome, Stop};

pub fn cases() -> Vec<Case> {
    cases![
        node_without_a_handler_ends_at_the_first_signal,
        node_with_a_handler_finishes_and_chooses_its_exit_code,
        node_behind_npm_start_finishes_its_handler,
        a_shell_pipeline_runs_and_ends_as_a_whole,
        nginx_reloads_and_with_quit_for_term_finishes_what_it_serves,
        postgresql_shuts_down_smart_fast_and_immediate_as_rewritten,
    ]
}

fn node_without_a_handler_ends_at_the_first_signal() -> Outcome {
    Need::Services.programs(&["node"])?;
    for role in ROLES {
        for (signal, code) in [(15, 143), (2, 130), (1, 129)] {
            let line = ["--init", "node", "node", "-e", "setInterval(() => {}, 1000); console.log('up')"];
            let running = Running::start(&role.jail()?, &line)?;
            assert_eq!(running.line()?, "up");
            running.send(&[signal])?;
            assert_eq!(running.end()?.0, code, "{role:?}");
        }
    }
    Ok(())
}

/// Needs a moment to end, and says when it has.
const SERVER: &str = "
    process.on('SIGTERM', () => { console.log('stopping'); setTimeout(() => { console.log('done'); process.exit(7); }, 400); });
    setInterval(() => {}, 1000);
    console.log('up');
";

fn node_with_a_handler_finishes_and_chooses_its_exit_code() -> Outcome {
    Need::Services.programs(&["node"])?;
    for role in ROLES {
        let running = Running::start(&role.jail()?, &["--init", "node", "node", "-e", SERVER])?;
        assert_eq!(running.line()?, "up");
        running.send(&[15])?;
        let (code, rest, _) = running.end()?;
        assert_eq!((code, rest), (7, vec!["stopping".to_owned(), "done".to_owned()]), "{role:?}");
    }
    Ok(())
}

fn node_behind_npm_start_finishes_its_handler() -> Outcome {
    Need::Services.programs(&["node", "npm"])?;
    for role in ROLES {
        for options in [&["--init"][..], &["--init", "--signal-group"]] {
            let jail = role.jail()?.setup("mkdir -p $W/app $W/home; chmod 777 $W/home");
            std::fs::create_dir(jail.work().join("app"))?;
            std::fs::write(jail.at("app/package.json"), r#"{"name":"app","version":"1.0.0","scripts":{"start":"node app.js"}}"#)?;
            std::fs::write(jail.at("app/app.js"), SERVER)?;
            let (home, app) = (format!("--env=HOME={}", jail.at("home")), format!("--chdir={}", jail.at("app")));
            let line = [options, &[&home, &app, "node", "npm", "start", "--no-update-notifier"]].concat();
            let running = Running::start(&jail, &line)?;
            while running.line()? != "up" {}
            running.send(&[15])?;
            let (_, rest, said) = running.end()?;
            assert!(rest.contains(&"done".to_owned()), "{role:?} {options:?}: {rest:?} {said}");
        }
    }
    Ok(())
}

fn a_shell_pipeline_runs_and_ends_as_a_whole() -> Outcome {
    for role in ROLES {
        let ran = role.jail()?.run(&["--init", "node", "sh", "-c", "yes | head -c 100000 | wc -c"])?;
        assert_eq!((ran.code, ran.stdout.trim(), ran.stderr.as_str()), (0, "100000", ""), "{role:?}");
        let running = Running::start(&role.jail()?, &["--init", "node", "sh", "-c", "echo up; sleep 60 | sleep 61 | cat; :"])?;
        assert_eq!(running.line()?, "up");
        let shell = children(running.pid)[0];
        until("no pipeline", || (children(shell).len() == 3).then_some(()))?;
        running.send(&[15])?;
        let (code, rest, said) = running.end()?;
        assert_eq!((code, rest.len(), said.as_str()), (143, 0, ""), "{role:?}");
    }
    Ok(())
}

const NGINX: &str = "
    daemon off; worker_processes 1; pid $W/nginx.pid; error_log stderr notice;
    events {}
    http {
        access_log off; client_body_temp_path $W/a; proxy_temp_path $W/b; fastcgi_temp_path $W/c;
        uwsgi_temp_path $W/d; scgi_temp_path $W/e;
        server { listen 127.0.0.1:8080; location / { return 200 'answer'; } }
    }
";

fn nginx_reloads_and_with_quit_for_term_finishes_what_it_serves() -> Outcome {
    Need::Services.programs(&["nginx"])?;
    for role in ROLES {
        let jail = role.jail()?.network().setup("chmod 777 $W");
        let configuration = jail.at("nginx.conf");
        std::fs::write(&configuration, NGINX.replace("$W", &jail.work().display().to_string()))?;
        let line = ["--init", "--rewrite=TERM=QUIT", "node", "nginx", "-e", "stderr", "-c", &configuration];
        let mut running = Running::start(&jail, &line)?;
        running.says("start worker process ")?;
        running.send(&[1])?;
        running.says("signal 1 (SIGHUP) received from")?;
        running.says("reconfiguring")?;
        running.send(&[15])?;
        let (code, _, said) = running.end()?;
        assert!(
            code == 0 && said.contains("signal 3 (SIGQUIT) received") && said.contains("gracefully shutting down"),
            "{role:?}: {code} {said}"
        );
    }
    Ok(())
}

/// Where Debian has the server's programs.
fn postgresql() -> Result<PathBuf, Stop> {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|version| version.path().join("bin"));
    versions
        .into_iter()
        .find(|programs| programs.join("postgres").exists())
        .ok_or_else(|| Need::Services.missing("needs postgresql"))
}

fn postgresql_shuts_down_smart_fast_and_immediate_as_rewritten() -> Outcome {
    let programs = postgresql()?;
    let program = |name: &str| programs.join(name).display().to_string();
    for role in ROLES {
        let jail = role.jail()?.setup("mkdir -p -m 700 $W/data; chown 1000:1000 $W/data; chmod 777 $W");
        let data = jail.at("data");
        let made = jail.run(&["--env=LC_ALL=C", "node", &program("initdb"), "-N", "-D", &data])?;
        assert_eq!(made.code, 0, "{made:?}");
        for (to, kind) in [("TERM", "smart"), ("INT", "fast"), ("QUIT", "immediate")] {
            let rewrite = format!("--rewrite=TERM={to}");
            let sockets = format!("unix_socket_directories={}", jail.at(""));
            let server = program("postgres");
            let line = ["--init", &rewrite, "node", &server, "-D", &data, "-c", &sockets, "-c", "listen_addresses="];
            let mut running = Running::start(&jail, &line)?;
            running.says("database system is ready to accept connections")?;
            running.send(&[15])?;
            let (code, _, said) = running.end()?;
            assert!(code == 0 && said.contains(&format!("received {kind} shutdown request")), "{role:?} {kind}: {code} {said}");
        }
    }
    Ok(())
}
