//! What the child under test said it really got: the output of the example `report`.

use serde_json::Value;

/// Its JSON.
pub struct Report(pub Value);

impl Report {
    fn numbers(value: &Value) -> Vec<u64> {
        value.as_array().unwrap_or(&Vec::new()).iter().filter_map(Value::as_u64).collect()
    }

    /// Real, effective and saved.
    pub fn uids(&self) -> Vec<u64> {
        Self::numbers(&self.0["uids"])
    }

    /// Real, effective and saved.
    pub fn gids(&self) -> Vec<u64> {
        Self::numbers(&self.0["gids"])
    }

    /// Ascending.
    pub fn groups(&self) -> Vec<u64> {
        Self::numbers(&self.0["groups"])
    }

    /// One of effective, permitted, inheritable, bounding, ambient.
    pub fn capabilities(&self, set: &str) -> Vec<u64> {
        Self::numbers(&self.0["capabilities"][set])
    }

    /// A list of signal numbers: `blocked_signals`, `ignored_signals`.
    pub fn signals(&self, list: &str) -> Vec<u64> {
        Self::numbers(&self.0[list])
    }

    /// Any plain number.
    pub fn number(&self, name: &str) -> i64 {
        self.0[name].as_i64().unwrap_or_else(|| panic!("{name} in {}", self.0))
    }

    /// Any text.
    pub fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_else(|| panic!("{name} in {}", self.0))
    }

    /// The value of an environment variable.
    pub fn variable(&self, name: &str) -> Option<String> {
        let all = self.0["environment"].as_array()?;
        all.iter().find_map(|entry| Some(entry.as_str()?.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
    }

    /// What is known of a descriptor.
    pub fn descriptor(&self, fd: u64) -> Option<&Value> {
        self.0["descriptors"].as_array()?.iter().find(|one| one["fd"] == fd)
    }

    /// The numbers of the open descriptors.
    pub fn descriptors(&self) -> Vec<u64> {
        self.0["descriptors"].as_array().map(|all| all.iter().filter_map(|one| one["fd"].as_u64()).collect()).unwrap_or_default()
    }

    /// Asserts that the child has these ids and groups, no capability, no way to more, and no way back.
    #[track_caller]
    pub fn is_exactly(&self, uid: u64, gid: u64, groups: &[u64]) {
        assert_eq!((self.uids(), self.gids(), self.groups()), (vec![uid; 3], vec![gid; 3], groups.to_vec()), "{}", self.0);
        for set in ["effective", "permitted", "inheritable", "bounding", "ambient"] {
            assert!(self.capabilities(set).is_empty(), "{set}: {}", self.0);
        }
        assert_eq!(self.number("no_new_privs"), 1);
        assert_eq!(self.0["can_become_root"], uid == 0);
        assert_eq!(self.0["can_take_root_group"], gid == 0);
    }
}
