//! What can happen to whom, and what that may cost.

use std::fmt;

/// What a fault happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A store, by its name.
    Store(&'static str),
    /// A role, by its name.
    Role(&'static str),
    /// The decoys' process.
    Sensor,
    /// The product in one process.
    Embedded,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Asked to end, away for a while, started again.
    Stopped,
    /// Ended hard with all that it has started, away for a while, started again.
    Killed,
    /// It takes connections and does nothing (SIGSTOP), then goes on (SIGCONT).
    Frozen,
    /// Everything that goes to it and comes from it takes longer.
    Slow,
    /// Its disk is full.
    Full,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// To whom.
    pub target: Target,
    /// What.
    pub fault: Fault,
}

use Fault::{Frozen, Full, Killed, Slow, Stopped};
use Target::{Embedded, Role, Sensor, Store};

const TARGETS: [Target; 14] = [
    Store("postgresql"),
    Store("rabbitmq"),
    Store("redis"),
    Store("s3"),
    Role("gateway"),
    Role("identity"),
    Role("catalog"),
    Role("testing"),
    Role("evidence"),
    Role("intel"),
    Role("analytics"),
    Role("deception"),
    Sensor,
    Embedded,
];
const FAULTS: [Fault; 5] = [Stopped, Killed, Frozen, Slow, Full];

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Store(name) | Role(name) => name,
            Sensor => "sensor",
            Embedded => "embedded",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stopped => "stopped",
            Killed => "killed",
            Frozen => "frozen",
            Slow => "slow",
            Full => "full",
        })
    }
}

/// All cases that make sense.
pub fn all() -> Vec<Case> {
    let pairs = TARGETS.iter().flat_map(|target| FAULTS.iter().map(|fault| Case { target: *target, fault: *fault }));
    pairs.filter(|case| makes_sense(*case)).collect()
}

/// Every target once, the stores in the ways that differ most; a run of these is short.
pub fn quick() -> Vec<Case> {
    let case = |target, fault| Case { target, fault };
    vec![
        case(Store("postgresql"), Killed),
        case(Store("postgresql"), Frozen),
        case(Store("rabbitmq"), Killed),
        case(Store("redis"), Killed),
        case(Store("redis"), Frozen),
        case(Store("s3"), Stopped),
        case(Role("gateway"), Stopped),
        case(Role("identity"), Killed),
        case(Role("catalog"), Frozen),
        case(Role("testing"), Killed),
        case(Role("evidence"), Slow),
        case(Role("analytics"), Killed),
        case(Role("deception"), Killed),
        case(Sensor, Killed),
        case(Embedded, Full),
    ]
}

fn makes_sense(case: Case) -> bool {
    match (case.target, case.fault) {
        // Redis keeps nothing on a disk, and no role but the sensor does.
        (Store("redis") | Role(_) | Sensor, Full) => false,
        // The rest of it is what the end-to-end tests do.
        (Embedded, fault) => fault == Full,
        _ => true,
    }
}

/// What `--only` says.
#[derive(Clone, Debug)]
pub struct Only {
    target: Target,
    fault: Option<Fault>,
}

impl Only {
    /// Reads `target` or `target:fault`.
    pub fn parse(text: &str) -> Result<Only, String> {
        let (target, fault) = match text.split_once(':') {
            Some((target, fault)) => (target, Some(fault)),
            None => (text, None),
        };
        let found =
            TARGETS.iter().find(|known| known.to_string() == target || (target == "postgres" && **known == TARGETS[0]));
        let target = *found.ok_or_else(|| format!("targets are {}", targets()))?;
        let fault = match fault {
            Some(name) => {
                let found = FAULTS.iter().find(|known| known.to_string() == name);
                Some(*found.ok_or_else(|| format!("faults are {}", faults()))?)
            }
            None => None,
        };
        Ok(Only { target, fault })
    }
}

/// Whether a case was asked for.
pub fn chosen(only: &[Only], case: Case) -> bool {
    let fits = |only: &Only| only.target == case.target && only.fault.is_none_or(|fault| fault == case.fault);
    only.is_empty() || only.iter().any(fits)
}

/// Their names, for messages.
pub fn targets() -> String {
    TARGETS.map(|target| target.to_string()).join(", ")
}

/// Their names, for messages.
pub fn faults() -> String {
    FAULTS.map(|fault| fault.to_string()).join(", ")
}

impl Case {
    /// Whether a request of this kind may be refused while it lasts: what stands on the target. All others have to go on.
    pub fn may_refuse(self, what: &str) -> bool {
        let these: &[&str] = match self.target {
            Store("postgresql") | Role("gateway") => return true,
            // Changes go on; what they cause comes later.
            Store("rabbitmq") => &[],
            // Throttling and caches only: both are done without.
            Store("redis") => &[],
            Store("s3") => &["upload", "download"],
            Role("identity") => &["notifications", "login", "me", "stream", "create"],
            Role("catalog") => &["techniques", "create"],
            Role("testing") => &["tests", "create", "move", "comment", "upload", "evidence", "download"],
            Role("evidence") => &["evidence", "upload", "download"],
            Role("intel") => &["sources"],
            Role("analytics") => &["metrics"],
            Role("deception") => &["decoys", "ingest"],
            Sensor => &["hit"],
            // Nothing can be written; everything can be read.
            Embedded => &["create", "move", "comment", "upload", "download", "login", "ingest", "hit"],
            Store(_) | Role(_) => return false,
        };
        these.contains(&what)
    }

    /// Whether there may be no answer at all.
    pub fn may_be_silent(self) -> bool {
        self.target == Role("gateway")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_found() {
        let only = [Only::parse("postgres:killed").unwrap(), Only::parse("sensor").unwrap()];
        let chosen: Vec<String> = all()
            .into_iter()
            .filter(|case| chosen(&only, *case))
            .map(|case| format!("{}:{}", case.target, case.fault))
            .collect();
        assert_eq!(chosen, ["postgresql:killed", "sensor:stopped", "sensor:killed", "sensor:frozen", "sensor:slow"]);
        assert!(Only::parse("nobody").is_err() && Only::parse("redis:bored").is_err());
    }

    #[test]
    fn the_quick_ones_are_of_all() {
        assert!(quick().iter().all(|case| all().contains(case)));
    }
}
