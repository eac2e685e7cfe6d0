//! One combination: what its start is like, what a dry run says, what a run does, and whether the model agrees.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use super::Combination;
use super::compare::{differences, environment, lie};
use super::dice::Dice;
use super::line::Program;
use super::model::{Begun, Forecast, forecast};
use super::start::Stream;
use crate::jail::Ran;
use crate::ownership::inside::Place;
use crate::report::Report;

/// What is started in the state of the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The report at once: what stepdown finds.
    Look,
    DryRun,
    Run,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It ran, as it had to.
    Ran,
    /// It was refused, as it had to be.
    Refused,
    /// It ran, where the manual does not say whether it would.
    RanPerhaps,
    /// Likewise.
    RefusedPerhaps,
}

impl Step {
    /// The exit code of a starter that could not become the program.
    pub const NOT_BEGUN: i32 = 99;

    /// By its name.
    pub fn named(name: &str) -> Self {
        let all = [Self::Look, Self::DryRun, Self::Run];
        all.into_iter().find(|step| step.name() == name).unwrap_or_else(|| panic!("no step is called {name}"))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::DryRun => "dry-run",
            Self::Run => "run",
        }
    }
}

impl Combination {
    /// The program and its arguments.
    pub fn words(&self, step: Step) -> Vec<String> {
        let (programs, to) = (&self.scene.programs, self.scene.path("report"));
        let report = format!("{programs}/report");
        if step == Step::Look {
            return vec![report, "--to".to_owned(), to];
        }
        let program = match self.line.program {
            Program::Report => report,
            Program::Searched => "report".to_owned(),
            Program::Missing => self.scene.path("none"),
            Program::Plain => self.scene.path("plain"),
        };
        let first = (step == Step::DryRun).then(|| if self.tells_json() { "--dry-run=json" } else { "--dry-run" });
        let line = self.line.words(first, &self.directory(), &program, &to);
        [vec![format!("{programs}/stepdown")], line].concat()
    }

    fn tells_json(&self) -> bool {
        !self.seed.is_multiple_of(4)
    }

    fn start(&self, place: &Place, holder: u32, step: Step) -> Ran {
        let words = [&self.seed.to_string(), step.name(), &self.work, &self.scene.programs, &holder.to_string()];
        let mut command = place.part("begin", &words);
        command.env_clear().envs(self.start.environment.iter().map(|(name, value)| (*name, value)));
        Ran::of(command.stdin(Stdio::piped()).output().expect("this program"))
    }

    fn report(&self) -> Option<Report> {
        let text = fs::read_to_string(self.scene.path("report")).expect("the report's file");
        fs::write(self.scene.path("report"), "").expect("the report's file");
        (!text.is_empty()).then(|| Report(serde_json::from_str(&text).expect("JSON")))
    }

    /// Tries it; says how it ended, or all that was wrong.
    pub fn tried(&self, place: &Place, holder: u32) -> Result<(End, Vec<String>), String> {
        self.scene.make();
        let looked = self.start(place, holder, Step::Look);
        let found = self.report().ok_or_else(|| format!("the start can't be made: {looked:?}"))?;
        let begun = Begun { start: &self.start, environment: environment(&found), report: &found };
        let forecast = forecast(&begun, &self.line, &self.scene);
        let before = self.scene.look();
        let dry = self.start(place, holder, Step::DryRun);
        let mut wrong = Vec::new();
        if self.scene.look() != before {
            wrong.push("the dry run changes files".to_owned());
        }
        let ran = self.start(place, holder, Step::Run);
        let got = self.report();
        let end = self.judge(&begun, &forecast, &ran, got.as_ref(), &mut wrong);
        self.compare_dry_run(&forecast, &dry, &ran, got.as_ref(), &mut wrong);
        if wrong.is_empty() {
            self.scene.remove();
            return Ok((end, forecast.must.into_iter().map(|(_, why)| why).collect()));
        }
        let what = wrong.join("\n  ");
        let got = got.map_or_else(|| "no report".to_owned(), |report| report.0.to_string());
        Err(format!("  {what}\n{}\nfound: {}\n{forecast:?}\nrun: {ran:?}\ndry run: {dry:?}\ngot: {got}", self.told(), found.0))
    }

    fn judge(&self, begun: &Begun<'_>, forecast: &Forecast, ran: &Ran, got: Option<&Report>, wrong: &mut Vec<String>) -> End {
        let codes = forecast.codes();
        let Some(got) = got else {
            if !codes.contains(&ran.code) {
                wrong.push(format!("refused with {}, and only {codes:?} may be", ran.code));
            }
            if self.start.streams[2] == Stream::Pipe && !ran.stderr.starts_with("stepdown: ") {
                wrong.push("refused without a word".to_owned());
            }
            return if forecast.is_open() { End::RefusedPerhaps } else { End::Refused };
        };
        for (code, why) in &forecast.must {
            wrong.push(format!("it ran, and had to be refused with {code}: {why}"));
        }
        if ran.code != 0 {
            wrong.push(format!("the report's exit code is 0, not {}", ran.code));
        }
        if let Some(promise) = &forecast.promise {
            wrong.extend(differences(begun, &self.line, promise, got));
            wrong.extend(self.scene.differs(self.start.space, promise));
            let (what, lie) = lie(&mut Dice::new(self.seed), got);
            if differences(begun, &self.line, promise, &lie).is_empty() {
                wrong.push(format!("a report with a lie in it ({what}) agrees as well"));
            }
        }
        if forecast.is_open() { End::RanPerhaps } else { End::Ran }
    }

    /// "The exit code is 0, or what the run's refusal would be."
    fn compare_dry_run(&self, forecast: &Forecast, dry: &Ran, ran: &Ran, got: Option<&Report>, wrong: &mut Vec<String>) {
        let expected = if got.is_some() { 0 } else { ran.code };
        let tried = dry.code == 0 && forecast.tried.iter().any(|(code, _)| *code == expected);
        // Of two reasons either may be found first.
        let other = got.is_none() && forecast.must.iter().any(|(code, _)| *code == dry.code);
        if dry.code != expected && !tried && !other {
            wrong.push(format!("the dry run's exit code is {}, and the run's end {expected}", dry.code));
        }
        let Some(got) = got.filter(|_| dry.code == 0) else { return };
        let groups = got.groups();
        if !self.tells_json() {
            let ids = format!("uid {}, gid {}", got.uids()[0], got.gids()[0]);
            let list = groups.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            if !dry.stdout.contains(&ids) || !dry.stdout.contains(&list) {
                wrong.push(format!("the dry run does not tell of {ids}, groups {list}"));
            }
            return;
        }
        let told: Value = serde_json::from_str(&dry.stdout).unwrap_or_default();
        let told = Report(told);
        let bounding = told.text("bounding_set") == "dropped";
        let capabilities = told.0["capabilities"].as_array().map_or(0, Vec::len);
        let says = [
            ("uid", told.0["user"]["uid"] == got.uids()[0]),
            ("gid", told.0["user"]["gid"] == got.gids()[0]),
            ("groups", told.0["user"]["groups"] == Value::from(groups)),
            ("capabilities", capabilities == got.capabilities("permitted").len()),
            ("bounding", !bounding || got.capabilities("bounding").len() == capabilities),
            ("no_new_privs", told.0["no_new_privs"] == (got.number("no_new_privs") == 1)),
            ("umask", told.0["umask"].is_null() || told.0["umask"] == got.text("umask")),
            ("directory", told.0["directory"].is_null() || told.0["directory"] == got.text("directory")),
        ];
        wrong.extend(says.iter().filter(|(_, agrees)| !agrees).map(|(what, _)| format!("the dry run tells of another {what}")));
    }
}
